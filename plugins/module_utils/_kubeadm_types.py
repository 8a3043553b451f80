# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module util is **PRIVATE** to the collection.

"""Which fields the configuration documents of kubeadm, kubelet and kube-proxy have, and a check against them.

Kubernetes ignores, or only warns of, a field it does not know: a misspelt setting is then silently lost. Here it is
an error that names the path and the nearest field that exists.

A table names a type on a line of its own; below it, indented, lines C(kind: field field ...). A field may carry the
releases it exists in: C(name@22-) from 1.22 on, C(name@-25) up to 1.25, C(name@20-23) both. Kinds are C(string),
C(int), C(bool), C(number), C(duration) (as Go writes it: 1m30s), C(nanoseconds), C(quantity), C(time), another type's
name, C([kind]) for a list and C({kind}) for a map with string keys; C(|) separates alternatives.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Callable, NamedTuple

from ansible_collections.multinic.kubernetes.plugins.module_utils._versions import NEWEST_KNOWN, Version

_COMMON = """
APIEndpoint
  string: advertiseAddress
  int: bindPort
Arg
  string: name value
BootstrapToken
  string: token description
  duration: ttl
  time: expires
  [string]: usages groups
BootstrapTokenDiscovery
  string: token apiServerEndpoint
  [string]: caCertHashes
  bool: unsafeSkipCAVerification
EnvVar
  string: name value
  EnvVarSource: valueFrom
EnvVarSource
  ObjectFieldSelector: fieldRef
  ResourceFieldSelector: resourceFieldRef
  KeySelector: configMapKeyRef secretKeyRef
  FileKeySelector: fileKeyRef@34-
FileKeySelector
  string: volumeName path key
  bool: optional
ObjectFieldSelector
  string: apiVersion fieldPath
ResourceFieldSelector
  string: containerName resource
  quantity: divisor
KeySelector
  string: name key
  bool: optional
Etcd
  LocalEtcd: local
  ExternalEtcd: external
ExternalEtcd
  [string]: endpoints httpEndpoints@35-
  string: caFile certFile keyFile
FileDiscovery
  string: kubeConfigPath
HostPathMount
  string: name hostPath mountPath pathType
  bool: readOnly
JoinControlPlane
  APIEndpoint: localAPIEndpoint
  string: certificateKey
Networking
  string: serviceSubnet podSubnet dnsDomain
Patches
  string: directory
"""

_TAINT = """
Taint
  string: key value effect
  time: timeAdded
"""

_OLD_ARGUMENTS = """
APIServer
  {string}: extraArgs
  [HostPathMount]: extraVolumes
  [string]: certSANs
  duration: timeoutForControlPlane
ControlPlaneComponent
  {string}: extraArgs
  [HostPathMount]: extraVolumes
Discovery
  BootstrapTokenDiscovery: bootstrapToken
  FileDiscovery: file
  string: tlsBootstrapToken
  duration: timeout
LocalEtcd
  string: imageRepository imageTag dataDir
  {string}: extraArgs
  [string]: serverCertSANs peerCertSANs
"""

_V1BETA2 = """
InitConfiguration
  [BootstrapToken]: bootstrapTokens
  NodeRegistrationOptions: nodeRegistration
  APIEndpoint: localAPIEndpoint
  string: certificateKey
ClusterConfiguration
  Etcd: etcd
  Networking: networking
  string: kubernetesVersion controlPlaneEndpoint certificatesDir imageRepository clusterName
  APIServer: apiServer
  ControlPlaneComponent: controllerManager scheduler
  DNS: dns
  bool: useHyperKubeImage
  {bool}: featureGates
JoinConfiguration
  NodeRegistrationOptions: nodeRegistration
  string: caCertPath
  Discovery: discovery
  JoinControlPlane: controlPlane
NodeRegistrationOptions
  string: name criSocket
  [Taint]: taints
  {string}: kubeletExtraArgs
  [string]: ignorePreflightErrors
DNS
  string: type imageRepository imageTag
"""

_V1BETA3 = """
InitConfiguration
  [BootstrapToken]: bootstrapTokens
  NodeRegistrationOptions: nodeRegistration
  APIEndpoint: localAPIEndpoint
  string: certificateKey
  [string]: skipPhases
  Patches: patches
ClusterConfiguration
  Etcd: etcd
  Networking: networking
  string: kubernetesVersion controlPlaneEndpoint certificatesDir imageRepository clusterName
  APIServer: apiServer
  ControlPlaneComponent: controllerManager scheduler
  DNS: dns
  {bool}: featureGates
JoinConfiguration
  NodeRegistrationOptions: nodeRegistration
  string: caCertPath
  Discovery: discovery
  JoinControlPlane: controlPlane
  [string]: skipPhases
  Patches: patches
NodeRegistrationOptions
  string: name criSocket imagePullPolicy
  [Taint]: taints
  {string}: kubeletExtraArgs
  [string]: ignorePreflightErrors
DNS
  string: imageRepository imageTag
"""

_V1BETA4 = """
InitConfiguration
  [BootstrapToken]: bootstrapTokens
  bool: dryRun
  NodeRegistrationOptions: nodeRegistration
  APIEndpoint: localAPIEndpoint
  string: certificateKey
  [string]: skipPhases
  Patches: patches
  Timeouts: timeouts
ClusterConfiguration
  Etcd: etcd
  Networking: networking
  string: kubernetesVersion controlPlaneEndpoint certificatesDir imageRepository clusterName encryptionAlgorithm
  APIServer: apiServer
  ControlPlaneComponent: controllerManager scheduler
  DNS: dns
  Proxy: proxy
  {bool}: featureGates
  duration: certificateValidityPeriod caCertificateValidityPeriod
JoinConfiguration
  bool: dryRun
  NodeRegistrationOptions: nodeRegistration
  string: caCertPath
  Discovery: discovery
  JoinControlPlane: controlPlane
  [string]: skipPhases
  Patches: patches
  Timeouts: timeouts
ResetConfiguration
  bool: cleanupTmpDir dryRun force
  string: certificatesDir criSocket
  [string]: ignorePreflightErrors skipPhases unmountFlags
  Timeouts: timeouts
UpgradeConfiguration
  UpgradeApplyConfiguration: apply
  UpgradeDiffConfiguration: diff
  UpgradeNodeConfiguration: node
  UpgradePlanConfiguration: plan
  Timeouts: timeouts
APIServer
  [Arg]: extraArgs
  [HostPathMount]: extraVolumes
  [EnvVar]: extraEnvs
  [string]: certSANs
ControlPlaneComponent
  [Arg]: extraArgs
  [HostPathMount]: extraVolumes
  [EnvVar]: extraEnvs
Discovery
  BootstrapTokenDiscovery: bootstrapToken
  FileDiscovery: file
  string: tlsBootstrapToken
DNS
  string: imageRepository imageTag
  bool: disabled
LocalEtcd
  string: imageRepository imageTag dataDir
  [Arg]: extraArgs
  [EnvVar]: extraEnvs
  [string]: serverCertSANs peerCertSANs
NodeRegistrationOptions
  string: name criSocket imagePullPolicy
  [Taint]: taints
  [Arg]: kubeletExtraArgs
  [string]: ignorePreflightErrors
  bool: imagePullSerial
Proxy
  bool: disabled
Timeouts
  duration: controlPlaneComponentHealthCheck kubeletHealthCheck kubernetesAPICall etcdAPICall tlsBootstrap
  duration: discovery upgradeManifests
UpgradeApplyConfiguration
  string: kubernetesVersion imagePullPolicy
  bool: allowExperimentalUpgrades allowRCUpgrades certificateRenewal dryRun etcdUpgrade forceUpgrade printConfig
  bool: imagePullSerial
  [string]: ignorePreflightErrors skipPhases
  Patches: patches
UpgradeDiffConfiguration
  string: kubernetesVersion
  int: contextLines
UpgradeNodeConfiguration
  bool: certificateRenewal dryRun etcdUpgrade imagePullSerial
  [string]: ignorePreflightErrors skipPhases
  Patches: patches
  string: imagePullPolicy
UpgradePlanConfiguration
  string: kubernetesVersion
  bool: allowExperimentalUpgrades allowRCUpgrades dryRun printConfig etcdUpgrade@33-
  [string]: ignorePreflightErrors
"""

_LOGGING = """
OldLoggingConfiguration
  string: format
  bool: sanitization@20-23
  nanoseconds: flushFrequency@23-
  int: verbosity@23-
  [VModuleItem]: vmodule@23-
  FormatOptions: options@23-
LoggingConfiguration
  string: format
  nanoseconds: flushFrequency@-27
  nanoseconds|duration: flushFrequency@28-
  int: verbosity
  [VModuleItem]: vmodule
  FormatOptions: options
FormatOptions
  OutputRoutingOptions: json text@30-
OutputRoutingOptions
  bool: splitStream
  quantity: infoBufferSize
VModuleItem
  string: filePattern
  int: verbosity
"""

_KUBELET = """
KubeletConfiguration
  bool: enableServer rotateCertificates serverTLSBootstrap enableDebuggingHandlers enableContentionProfiling
  bool: cgroupsPerQOS runOnce cpuCFSQuota serializeImagePulls enableControllerAttachDetach protectKernelDefaults
  bool: makeIPTablesUtilChains failSwapOn kernelMemcgNotification enableSystemLogHandler enableProfilingHandler@21-
  bool: enableDebugFlagsHandler@21- seccompDefault@22- registerNode@23- localStorageCapacityIsolation@25-
  bool: enableSystemLogQuery@27- failCgroupV1@31- singleProcessOOMKill@32- mergeDefaultEvictionSettings@33-
  string: staticPodPath staticPodURL address tlsCertFile tlsPrivateKeyFile tlsMinVersion healthzBindAddress
  string: clusterDomain kubeletCgroups systemCgroups cgroupRoot cgroupDriver cpuManagerPolicy topologyManagerPolicy
  string: hairpinMode podCIDR resolvConf contentType containerLogMaxSize configMapAndSecretChangeDetectionStrategy
  string: reservedSystemCPUs showHiddenMetricsForVersion systemReservedCgroup kubeReservedCgroup volumePluginDir
  string: providerID topologyManagerScope@20- memoryManagerPolicy@21- containerRuntimeEndpoint@27-
  string: imageServiceEndpoint@27- podLogsDir@30- imagePullCredentialsVerificationPolicy@33-
  string: memoryReservationPolicy@36-
  duration: syncFrequency fileCheckFrequency httpCheckFrequency streamingConnectionIdleTimeout
  duration: nodeStatusUpdateFrequency nodeStatusReportFrequency imageMinimumGCAge volumeStatsAggPeriod
  duration: cpuManagerReconcilePeriod runtimeRequestTimeout cpuCFSQuotaPeriod evictionPressureTransitionPeriod
  duration: shutdownGracePeriod@20- shutdownGracePeriodCriticalPods@20- imageMaximumGCAge@29-
  duration: containerLogMonitorInterval@30-
  {[string]}: staticPodURLHeader
  int: port readOnlyPort registryPullQPS registryBurst eventRecordQPS eventBurst healthzPort oomScoreAdj
  int: nodeLeaseDurationSeconds imageGCHighThresholdPercent imageGCLowThresholdPercent maxPods podPidsLimit
  int: nodeStatusMaxImages maxOpenFiles kubeAPIQPS kubeAPIBurst evictionMaxPodGracePeriod podsPerCore
  int: iptablesMasqueradeBit iptablesDropBit containerLogMaxFiles maxParallelImagePulls@27-
  int: containerLogMaxWorkers@30-
  [string]: tlsCipherSuites clusterDNS enforceNodeAllocatable allowedUnsafeSysctls
  [string]: preloadedImagesVerificationAllowlist@33-
  [int]: tlsCurvePreferences@36-
  KubeletAuthentication: authentication
  KubeletAuthorization: authorization
  {string}: qosReserved evictionHard evictionSoft evictionSoftGracePeriod evictionMinimumReclaim systemReserved
  {string}: kubeReserved cpuManagerPolicyOptions@22- topologyManagerPolicyOptions@26- defaultPodSysctls@37-
  {bool}: featureGates
  OldLoggingConfiguration: logging@-24
  LoggingConfiguration: logging@25-
  [MemoryReservation]: reservedMemory@21-
  MemorySwapConfiguration: memorySwap@22-
  number: memoryThrottlingFactor@22-
  [ShutdownGracePeriodByPodPriority]: shutdownGracePeriodByPodPriority@23-
  [Taint]: registerWithTaints@23-
  TracingConfiguration: tracing@25-
  CrashLoopBackOffConfig: crashLoopBackOff@32-
  UserNamespaces: userNamespaces@33-
CrashLoopBackOffConfig
  duration: maxContainerRestartPeriod
KubeletAnonymousAuthentication
  bool: enabled
KubeletAuthentication
  KubeletX509Authentication: x509
  KubeletWebhookAuthentication: webhook
  KubeletAnonymousAuthentication: anonymous
KubeletAuthorization
  string: mode
  KubeletWebhookAuthorization: webhook
KubeletWebhookAuthentication
  bool: enabled
  duration: cacheTTL
KubeletWebhookAuthorization
  duration: cacheAuthorizedTTL cacheUnauthorizedTTL
KubeletX509Authentication
  string: clientCAFile
MemoryReservation
  int: numaNode
  {quantity}: limits
MemorySwapConfiguration
  string: swapBehavior
ShutdownGracePeriodByPodPriority
  int: priority shutdownGracePeriodSeconds
TracingConfiguration
  string: endpoint
  int: samplingRatePerMillion
UserNamespaces
  int: idsPerPod
"""

_KUBE_PROXY = """
KubeProxyConfiguration
  {bool}: featureGates
  string: bindAddress healthzBindAddress metricsBindAddress clusterCIDR hostnameOverride mode portRange
  string: showHiddenMetricsForVersion detectLocalMode
  bool: bindAddressHardFail enableProfiling windowsRunAsService@31-
  ClientConnectionConfiguration: clientConnection
  KubeProxyIPTablesConfiguration: iptables
  KubeProxyIPVSConfiguration: ipvs
  int: oomScoreAdj
  duration: udpIdleTimeout@-25 configSyncPeriod
  KubeProxyConntrackConfiguration: conntrack
  [string]: nodePortAddresses
  KubeProxyWinkernelConfiguration: winkernel
  DetectLocalConfiguration: detectLocal@24-
  LoggingConfiguration: logging@28-
  KubeProxyNFTablesConfiguration: nftables@29-
ClientConnectionConfiguration
  string: kubeconfig acceptContentTypes contentType
  number: qps
  int: burst
DetectLocalConfiguration
  string: bridgeInterface interfaceNamePrefix
KubeProxyConntrackConfiguration
  int: maxPerCore min
  duration: tcpEstablishedTimeout tcpCloseWaitTimeout udpTimeout@29- udpStreamTimeout@29-
  bool: tcpBeLiberal@29-
KubeProxyIPTablesConfiguration
  int: masqueradeBit
  bool: masqueradeAll localhostNodePorts@26-
  duration: syncPeriod minSyncPeriod
KubeProxyIPVSConfiguration
  duration: syncPeriod minSyncPeriod tcpTimeout tcpFinTimeout udpTimeout
  string: scheduler
  [string]: excludeCIDRs
  bool: strictARP
KubeProxyNFTablesConfiguration
  int: masqueradeBit
  bool: masqueradeAll
  duration: syncPeriod minSyncPeriod
KubeProxyWinkernelConfiguration
  string: networkName sourceVip rootHnsEndpointName@24-
  bool: enableDSR forwardHealthCheckVip@24-
"""

KUBELET_API = "kubelet.config.k8s.io/v1beta1"
KUBE_PROXY_API = "kubeproxy.config.k8s.io/v1alpha1"

_TABLES: dict[str, str] = {
    "kubeadm.k8s.io/v1beta2": _COMMON + _TAINT + _OLD_ARGUMENTS + _V1BETA2,
    "kubeadm.k8s.io/v1beta3": _COMMON + _TAINT + _OLD_ARGUMENTS + _V1BETA3,
    "kubeadm.k8s.io/v1beta4": _COMMON + _TAINT + _V1BETA4,
    KUBELET_API: _TAINT + _LOGGING + _KUBELET,
    KUBE_PROXY_API: _LOGGING + _KUBE_PROXY,
}

_DURATION = re.compile(r"^[+-]?(?:0|(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)$")
_QUANTITY = re.compile(r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?$")
_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)$")


class Field(NamedTuple):
    """One field of a type in one span of releases; 0 means without bound."""

    name: str
    kind: str
    since: int
    until: int

    def exists_in(self, minor: int) -> bool:
        """True when the field exists in release 1.minor."""
        return self.since <= minor and (not self.until or minor <= self.until)

    @property
    def span(self) -> str:
        """The releases of the field in words."""
        if self.since and self.until:
            return f"exists only in 1.{self.since} to 1.{self.until}"
        return f"exists only since 1.{self.since}" if self.since else f"exists only up to 1.{self.until}"


class Problem(NamedTuple):
    """One thing that Kubernetes would not take, or would silently drop."""

    path: str
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}: {self.found}" + (f"; {self.remedy}" if self.remedy else "")


@cache
def types_of(api_version: str) -> dict[str, list[Field]]:
    """All types of an API version with all their fields in all releases."""
    types: dict[str, list[Field]] = {}
    fields: list[Field] = []
    for line in _TABLES[api_version].splitlines():
        if line and not line.startswith(" "):
            fields = types.setdefault(line, [])
        elif line:
            kind, _colon, words = line.strip().partition(": ")
            for word in words.split():
                name, _at, span = word.partition("@")
                since, _dash, until = span.partition("-")
                fields.append(Field(name, kind, int(since or 0), int(until or 0)))
    return types


def fields_of(api_version: str, kind: str, version: Version) -> dict[str, str]:
    """The fields (name to kind) a document or type has in a Kubernetes version."""
    minor = _minor(version)
    return {field.name: field.kind for field in types_of(api_version)[kind] if field.exists_in(minor)}


def check_document(document: Mapping[str, Any], version: Version) -> list[Problem]:
    """Check a whole document, which names its own apiVersion and kind."""
    api, kind = document.get("apiVersion"), document.get("kind")
    if api not in _TABLES:
        return [Problem("apiVersion", f"'{api}' is not known", "known: " + ", ".join(sorted(_TABLES)))]
    if not isinstance(kind, str) or not kind.endswith("Configuration") or kind not in types_of(api):
        known = sorted(name for name in types_of(api) if name.endswith("Configuration"))
        return [Problem("kind", f"'{kind}' is not a kind of {api}", "known: " + ", ".join(known))]
    body = {name: value for name, value in document.items() if name not in ("apiVersion", "kind")}
    return list(_check_type(body, kind, api, _minor(version), kind))


def check_fields(fields: Any, api_version: str, kind: str, version: Version, path: str) -> list[Problem]:
    """Check what a user wants merged into a document of the given kind; path is the variable it came from."""
    return list(_check_type(fields, kind, api_version, _minor(version), path))


def _minor(version: Version) -> int:
    return min(version.minor, NEWEST_KNOWN[1])


def _check_type(value: Any, type_name: str, api: str, minor: int, path: str) -> Iterator[Problem]:
    if not isinstance(value, Mapping):
        yield Problem(
            path, f"{_describe(value)} where a mapping with the fields of {type_name} belongs", "write a mapping"
        )
        return
    known = {field.name: field for field in types_of(api)[type_name] if field.exists_in(minor)}
    for name, item in value.items():
        where = f"{path}.{name}"
        if name in known:
            yield from _check_kind(item, known[name].kind, api, minor, where)
        else:
            yield _unknown(str(name), type_name, api, minor, where)


def _unknown(name: str, type_name: str, api: str, minor: int, path: str) -> Problem:
    fields = types_of(api)[type_name]
    known = sorted(field.name for field in fields if field.exists_in(minor))
    elsewhen = [field for field in fields if field.name == name]
    if elsewhen:
        return Problem(path, f"not a field of {type_name} in Kubernetes 1.{minor}", f"it {elsewhen[0].span}")
    lower = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), list(lower), n=1, cutoff=0.5)
    remedy = f"did you mean '{lower[near[0]]}'?" if near else "its fields: " + ", ".join(known)
    return Problem(path, f"not a field of {type_name} ({api})", remedy)


def _check_kind(value: Any, kind: str, api: str, minor: int, path: str) -> Iterator[Problem]:
    if value is None:
        yield Problem(path, "empty (null)", f"give a {_kind_in_words(kind)} or leave the field out")
    elif kind.startswith("["):
        if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Sequence):
            yield Problem(path, f"{_describe(value)} where a list belongs", "write a list")
            return
        for number, item in enumerate(value):
            yield from _check_kind(item, kind[1:-1], api, minor, f"{path}[{number}]")
    elif kind.startswith("{"):
        if not isinstance(value, Mapping):
            yield Problem(path, f"{_describe(value)} where a mapping belongs", "write a mapping")
            return
        for name, item in value.items():
            if not isinstance(name, str):
                yield Problem(path, f"the key {name!r} is not a string", "quote it")
            yield from _check_kind(item, kind[1:-1], api, minor, f"{path}.{name}")
    elif kind in types_of(api):
        yield from _check_type(value, kind, api, minor, path)
    elif not any(_SCALARS[alternative](value) for alternative in kind.split("|")):
        quote = kind == "string" and isinstance(value, (bool, int, float))
        yield Problem(
            path,
            f"{_describe(value)} where a {_kind_in_words(kind)} belongs",
            "quote it"
            if quote
            else f"write {_kind_in_words(kind)}"
            if kind == "bool"
            else f"write a {_kind_in_words(kind)}",
        )


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_SCALARS: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "int": _is_int,
    "nanoseconds": _is_int,
    "number": _is_number,
    "bool": lambda value: isinstance(value, bool),
    "duration": lambda value: isinstance(value, str) and _DURATION.match(value) is not None,
    "quantity": lambda value: _is_number(value) or (isinstance(value, str) and _QUANTITY.match(value) is not None),
    "time": lambda value: isinstance(value, str) and _TIME.match(value) is not None,
}

_WORDS = {
    "int": "whole number",
    "bool": "true or false",
    "duration": "duration (such as 1m30s)",
    "nanoseconds": "whole number of nanoseconds",
    "quantity": "quantity (such as 100Mi)",
    "time": "time (such as 2030-01-31T00:00:00Z)",
}


def _kind_in_words(kind: str) -> str:
    return " or ".join(_WORDS.get(alternative, alternative) for alternative in kind.split("|"))


def _describe(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, str):
        return f"the string '{value}'"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Sequence):
        return "a list"
    return f"the number {value}" if isinstance(value, (int, float)) else f"{value!r}"
