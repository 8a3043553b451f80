// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// A small CRI client with the commands of crictl that kubeadm runs (info, pods, stopp, rmp, pull, inspecti) and those
// a person needs to look at a node (version, ps, images, inspect, inspectp, logs, stop, rm, rmi). It is built from
// Kubernetes' own CRI client, for places where the Go module proxy does not serve crictl itself.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/ioutil"
	"os"
	"sort"
	"strings"
	"text/tabwriter"
	"time"

	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1alpha2"
	"k8s.io/kubernetes/pkg/kubelet/cri/remote"
	"sigs.k8s.io/yaml"
)

var version = "unknown"

const defaultEndpoint = "unix:///run/containerd/containerd.sock"

type settings struct {
	RuntimeEndpoint string `json:"runtime-endpoint"`
	ImageEndpoint   string `json:"image-endpoint"`
	Timeout         int    `json:"timeout"`
}

type client struct {
	settings settings
	quiet    bool
	all      bool
	force    bool
	tail     int
	name     string
	output   string
	out      io.Writer
}

type command struct {
	usage   string
	minimum int
	run     func(*client, []string) error
}

var commands = map[string]command{
	"version":  {"", 0, (*client).version},
	"info":     {"", 0, (*client).info},
	"pods":     {"[-q] [--name TEXT]", 0, (*client).pods},
	"ps":       {"[-a] [-q] [--name TEXT]", 0, (*client).containers},
	"images":   {"[-q]", 0, (*client).images},
	"inspect":  {"CONTAINER...", 1, (*client).inspect},
	"inspectp": {"POD...", 1, (*client).inspectPod},
	"inspecti": {"IMAGE...", 1, (*client).inspectImage},
	"logs":     {"[--tail N] CONTAINER", 1, (*client).logs},
	"pull":     {"IMAGE...", 1, (*client).pull},
	"stop":     {"CONTAINER...", 1, (*client).stop},
	"rm":       {"[-f] CONTAINER...", 1, (*client).remove},
	"stopp":    {"POD...", 1, (*client).stopPod},
	"rmp":      {"[-f] POD...", 1, (*client).removePod},
	"rmi":      {"IMAGE...", 1, (*client).removeImage},
}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "crictl: %v\n", err)
		os.Exit(1)
	}
}

func run(arguments []string, out io.Writer) error {
	c := &client{out: out}
	var runtimeEndpoint, imageEndpoint, config string
	var timeout time.Duration
	var showVersion bool
	global := flag.NewFlagSet("crictl", flag.ContinueOnError)
	global.Usage = func() { usage(global.Output()) }
	for _, name := range []string{"r", "runtime-endpoint"} {
		global.StringVar(&runtimeEndpoint, name, os.Getenv("CONTAINER_RUNTIME_ENDPOINT"), "the runtime's socket")
	}
	for _, name := range []string{"i", "image-endpoint"} {
		global.StringVar(&imageEndpoint, name, os.Getenv("IMAGE_SERVICE_ENDPOINT"), "the image service's socket")
	}
	for _, name := range []string{"c", "config"} {
		global.StringVar(&config, name, "/etc/crictl.yaml", "the configuration file")
	}
	for _, name := range []string{"t", "timeout"} {
		global.DurationVar(&timeout, name, 0, "how long a request may take")
	}
	for _, name := range []string{"v", "version"} {
		global.BoolVar(&showVersion, name, false, "show the version of this program")
	}
	if err := global.Parse(arguments); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if showVersion {
		fmt.Fprintf(out, "crictl version %s\n", version)
		return nil
	}
	if global.NArg() == 0 {
		usage(os.Stderr)
		return errors.New("no command given")
	}
	if err := c.configure(config, runtimeEndpoint, imageEndpoint, timeout); err != nil {
		return err
	}
	name := global.Arg(0)
	chosen, ok := commands[name]
	if !ok {
		usage(os.Stderr)
		return fmt.Errorf("unknown command %q", name)
	}
	local := flag.NewFlagSet(name, flag.ContinueOnError)
	for _, flagName := range []string{"q", "quiet"} {
		local.BoolVar(&c.quiet, flagName, false, "only identifiers")
	}
	for _, flagName := range []string{"a", "all"} {
		local.BoolVar(&c.all, flagName, false, "also containers that have ended")
	}
	for _, flagName := range []string{"f", "force"} {
		local.BoolVar(&c.force, flagName, false, "stop it first")
	}
	for _, flagName := range []string{"o", "output"} {
		local.StringVar(&c.output, flagName, "", "json")
	}
	local.IntVar(&c.tail, "tail", -1, "only the last lines")
	local.StringVar(&c.name, "name", "", "only those with this text in their name")
	if err := local.Parse(global.Args()[1:]); err != nil {
		return err
	}
	if local.NArg() < chosen.minimum {
		return fmt.Errorf("usage: crictl %s %s", name, chosen.usage)
	}
	return chosen.run(c, local.Args())
}

func usage(out io.Writer) {
	fmt.Fprintln(out, "usage: crictl [-r SOCKET] [-i SOCKET] [-t DURATION] [-c FILE] COMMAND")
	names := make([]string, 0, len(commands))
	for name := range commands {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Fprintf(out, "  %s %s\n", name, commands[name].usage)
	}
}

// configure takes the command line first, then the configuration file, then containerd's socket.
func (c *client) configure(path, runtimeEndpoint, imageEndpoint string, timeout time.Duration) error {
	text, err := ioutil.ReadFile(path)
	if err == nil {
		if err := yaml.Unmarshal(text, &c.settings); err != nil {
			return fmt.Errorf("%s: %v", path, err)
		}
	} else if !os.IsNotExist(err) {
		return err
	}
	if runtimeEndpoint != "" {
		c.settings.RuntimeEndpoint = runtimeEndpoint
		c.settings.ImageEndpoint = imageEndpoint
	}
	if c.settings.RuntimeEndpoint == "" {
		c.settings.RuntimeEndpoint = defaultEndpoint
	}
	if imageEndpoint != "" {
		c.settings.ImageEndpoint = imageEndpoint
	}
	if c.settings.ImageEndpoint == "" {
		c.settings.ImageEndpoint = c.settings.RuntimeEndpoint
	}
	if timeout > 0 {
		c.settings.Timeout = int((timeout + time.Second - 1) / time.Second)
	}
	return nil
}

func (c *client) timeout(otherwise time.Duration) time.Duration {
	if c.settings.Timeout > 0 {
		return time.Duration(c.settings.Timeout) * time.Second
	}
	return otherwise
}

func (c *client) runtime() (internalapi.RuntimeService, error) {
	return remote.NewRemoteRuntimeService(c.settings.RuntimeEndpoint, c.timeout(10*time.Second))
}

func (c *client) imageService(otherwise time.Duration) (internalapi.ImageManagerService, error) {
	return remote.NewRemoteImageService(c.settings.ImageEndpoint, c.timeout(otherwise))
}

func (c *client) json(value interface{}) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err == nil {
		_, err = fmt.Fprintln(c.out, string(text))
	}
	return err
}

// table prints identifiers only, JSON, or columns.
func (c *client) table(value interface{}, heading string, identifiers []string, rows []string) error {
	if c.quiet {
		for _, identifier := range identifiers {
			fmt.Fprintln(c.out, identifier)
		}
		return nil
	}
	if c.output == "json" {
		return c.json(value)
	}
	writer := tabwriter.NewWriter(c.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(writer, heading)
	for _, row := range rows {
		fmt.Fprintln(writer, row)
	}
	return writer.Flush()
}

func (c *client) version([]string) error {
	service, err := c.runtime()
	if err != nil {
		return err
	}
	found, err := service.Version("v1")
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "Version:  %s\nRuntimeName:  %s\nRuntimeVersion:  %s\nRuntimeApiVersion:  %s\n",
		found.Version, found.RuntimeName, found.RuntimeVersion, found.RuntimeApiVersion)
	return nil
}

func (c *client) info([]string) error {
	service, err := c.runtime()
	if err != nil {
		return err
	}
	status, err := service.Status()
	if err != nil {
		return err
	}
	return c.json(map[string]interface{}{"status": status})
}

func short(identifier string) string {
	identifier = strings.TrimPrefix(identifier, "sha256:")
	if len(identifier) > 13 {
		return identifier[:13]
	}
	return identifier
}

func age(nanoseconds int64) string {
	return time.Since(time.Unix(0, nanoseconds)).Round(time.Second).String()
}

func (c *client) pods([]string) error {
	service, err := c.runtime()
	if err != nil {
		return err
	}
	found, err := service.ListPodSandbox(nil)
	if err != nil {
		return err
	}
	kept, identifiers, rows := []*runtimeapi.PodSandbox{}, []string{}, []string{}
	for _, pod := range found {
		if !strings.Contains(pod.Metadata.Name, c.name) {
			continue
		}
		kept = append(kept, pod)
		identifiers = append(identifiers, pod.Id)
		rows = append(rows, strings.Join([]string{short(pod.Id), age(pod.CreatedAt),
			strings.TrimPrefix(pod.State.String(), "SANDBOX_"), pod.Metadata.Name, pod.Metadata.Namespace,
			fmt.Sprint(pod.Metadata.Attempt)}, "\t"))
	}
	return c.table(kept, "POD ID\tAGE\tSTATE\tNAME\tNAMESPACE\tATTEMPT", identifiers, rows)
}

func (c *client) containers([]string) error {
	service, err := c.runtime()
	if err != nil {
		return err
	}
	filter := &runtimeapi.ContainerFilter{}
	if !c.all {
		filter.State = &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING}
	}
	found, err := service.ListContainers(filter)
	if err != nil {
		return err
	}
	kept, identifiers, rows := []*runtimeapi.Container{}, []string{}, []string{}
	for _, container := range found {
		if !strings.Contains(container.Metadata.Name, c.name) {
			continue
		}
		kept = append(kept, container)
		identifiers = append(identifiers, container.Id)
		rows = append(rows, strings.Join([]string{short(container.Id), short(container.Image.Image),
			age(container.CreatedAt), strings.TrimPrefix(container.State.String(), "CONTAINER_"),
			container.Metadata.Name, fmt.Sprint(container.Metadata.Attempt), short(container.PodSandboxId),
			container.Labels["io.kubernetes.pod.name"]}, "\t"))
	}
	return c.table(kept, "CONTAINER\tIMAGE\tAGE\tSTATE\tNAME\tATTEMPT\tPOD ID\tPOD", identifiers, rows)
}

func (c *client) images([]string) error {
	service, err := c.imageService(10 * time.Second)
	if err != nil {
		return err
	}
	found, err := service.ListImages(nil)
	if err != nil {
		return err
	}
	identifiers, rows := []string{}, []string{}
	for _, image := range found {
		identifiers = append(identifiers, image.Id)
		tags := image.RepoTags
		if len(tags) == 0 {
			tags = []string{"<none>"}
		}
		for _, tag := range tags {
			rows = append(rows, fmt.Sprintf("%s\t%s\t%d", tag, short(image.Id), image.Size_))
		}
	}
	return c.table(found, "IMAGE\tIMAGE ID\tBYTES", identifiers, rows)
}

// containerID turns the beginning of an identifier into the whole.
func containerID(service internalapi.RuntimeService, prefix string) (string, error) {
	found, err := service.ListContainers(nil)
	if err != nil {
		return "", err
	}
	identifiers := []string{}
	for _, container := range found {
		identifiers = append(identifiers, container.Id)
	}
	return only(identifiers, prefix, "container")
}

func podID(service internalapi.RuntimeService, prefix string) (string, error) {
	found, err := service.ListPodSandbox(nil)
	if err != nil {
		return "", err
	}
	identifiers := []string{}
	for _, pod := range found {
		identifiers = append(identifiers, pod.Id)
	}
	return only(identifiers, prefix, "pod")
}

func only(identifiers []string, prefix, what string) (string, error) {
	matches := []string{}
	for _, identifier := range identifiers {
		if strings.HasPrefix(identifier, prefix) {
			matches = append(matches, identifier)
		}
	}
	if len(matches) != 1 {
		return "", fmt.Errorf("%d %ss have an identifier that begins with %q", len(matches), what, prefix)
	}
	return matches[0], nil
}

// forEach does the same to several, goes on after a failure, and tells of all failures.
func forEach(items []string, do func(string) error) error {
	failures := []string{}
	for _, item := range items {
		if err := do(item); err != nil {
			failures = append(failures, fmt.Sprintf("%s: %v", item, err))
		}
	}
	if len(failures) > 0 {
		return errors.New(strings.Join(failures, "; "))
	}
	return nil
}

func (c *client) withContainers(items []string, do func(internalapi.RuntimeService, string) error) error {
	service, err := c.runtime()
	if err != nil {
		return err
	}
	return forEach(items, func(item string) error {
		identifier, err := containerID(service, item)
		if err != nil {
			return err
		}
		return do(service, identifier)
	})
}

func (c *client) withPods(items []string, do func(internalapi.RuntimeService, string) error) error {
	service, err := c.runtime()
	if err != nil {
		return err
	}
	return forEach(items, func(item string) error {
		identifier, err := podID(service, item)
		if err != nil {
			return err
		}
		return do(service, identifier)
	})
}

func (c *client) inspect(items []string) error {
	return c.withContainers(items, func(service internalapi.RuntimeService, identifier string) error {
		status, err := service.ContainerStatus(identifier)
		if err != nil {
			return err
		}
		return c.json(map[string]interface{}{"status": status})
	})
}

func (c *client) inspectPod(items []string) error {
	return c.withPods(items, func(service internalapi.RuntimeService, identifier string) error {
		status, err := service.PodSandboxStatus(identifier)
		if err != nil {
			return err
		}
		return c.json(map[string]interface{}{"status": status})
	})
}

func (c *client) inspectImage(items []string) error {
	service, err := c.imageService(10 * time.Second)
	if err != nil {
		return err
	}
	return forEach(items, func(item string) error {
		status, err := service.ImageStatus(&runtimeapi.ImageSpec{Image: item})
		if err != nil {
			return err
		}
		if status == nil || status.Id == "" {
			return errors.New("no such image")
		}
		return c.json(map[string]interface{}{"status": status})
	})
}

func (c *client) logs(items []string) error {
	return c.withContainers(items[:1], func(service internalapi.RuntimeService, identifier string) error {
		status, err := service.ContainerStatus(identifier)
		if err != nil {
			return err
		}
		text, err := ioutil.ReadFile(status.LogPath)
		if err != nil {
			return err
		}
		lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
		if c.tail >= 0 && len(lines) > c.tail {
			lines = lines[len(lines)-c.tail:]
		}
		for _, line := range lines {
			fmt.Fprintln(c.out, message(line))
		}
		return nil
	})
}

// message takes time, stream and tag off a line of a CRI log.
func message(line string) string {
	fields := strings.SplitN(line, " ", 4)
	return fields[len(fields)-1]
}

func (c *client) pull(items []string) error {
	service, err := c.imageService(10 * time.Minute)
	if err != nil {
		return err
	}
	return forEach(items, func(item string) error {
		reference, err := service.PullImage(&runtimeapi.ImageSpec{Image: item}, nil, nil)
		if err == nil {
			fmt.Fprintf(c.out, "Image is up to date for %s\n", reference)
		}
		return err
	})
}

func (c *client) stop(items []string) error {
	return c.withContainers(items, func(service internalapi.RuntimeService, identifier string) error {
		return service.StopContainer(identifier, 10)
	})
}

func (c *client) remove(items []string) error {
	return c.withContainers(items, func(service internalapi.RuntimeService, identifier string) error {
		if c.force {
			if err := service.StopContainer(identifier, 10); err != nil {
				return err
			}
		}
		return service.RemoveContainer(identifier)
	})
}

func (c *client) stopPod(items []string) error {
	return c.withPods(items, func(service internalapi.RuntimeService, identifier string) error {
		return service.StopPodSandbox(identifier)
	})
}

func (c *client) removePod(items []string) error {
	return c.withPods(items, func(service internalapi.RuntimeService, identifier string) error {
		if c.force {
			if err := service.StopPodSandbox(identifier); err != nil {
				return err
			}
		}
		return service.RemovePodSandbox(identifier)
	})
}

func (c *client) removeImage(items []string) error {
	service, err := c.imageService(30 * time.Second)
	if err != nil {
		return err
	}
	return forEach(items, func(item string) error {
		return service.RemoveImage(&runtimeapi.ImageSpec{Image: item})
	})
}
