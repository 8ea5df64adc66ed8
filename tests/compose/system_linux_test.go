package compose

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
)

// system runs the services of a Compose file as processes of this machine.
type system struct {
	t        *testing.T
	project  *types.Project
	dir      string            // what containers would have of their own
	ip       map[string]string // of each service
	programs programs
	running  map[string]*service
}

// service is a started process.
type service struct {
	types.ServiceConfig
	cmd    *exec.Cmd
	output output
	done   chan struct{}
	err    error // after done
}

// newSystem gives each service an address. It starts nothing.
func newSystem(t *testing.T, p *types.Project, found programs) *system {
	t.Helper()
	s := &system{t: t, project: p, dir: t.TempDir(), ip: map[string]string{}, programs: found, running: map[string]*service{}}
	// Any two tests of a machine get two networks: a process's number is its own.
	pid := os.Getpid()
	for i, name := range slices.Sorted(maps.Keys(p.Services)) {
		ip := fmt.Sprintf("127.%d.%d.%d", 64+pid>>8&63, pid&255, i+2)
		l, err := net.Listen("tcp", ip+":0")
		if err != nil {
			t.Skipf("SKIPPED: this machine has no loopback address %s, one for each service: %v", ip, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		s.ip[name] = ip
	}
	t.Cleanup(s.stopAll)
	return s
}

var ownAddress = regexp.MustCompile(`\b(0\.0\.0\.0|127\.0\.0\.1)(:|$)`)

// local is text as a service would understand it on its network: names of services are their addresses, and its own
// addresses are its own; paths of mounts are where the files lie here.
func (s *system) local(service *types.ServiceConfig, text string) string {
	for name, ip := range s.ip {
		text = regexp.MustCompile(`(^|[\s"'/=,\[])`+regexp.QuoteMeta(name)+`:(\d+)`).ReplaceAllString(text, "${1}"+ip+":${2}")
	}
	text = ownAddress.ReplaceAllString(text, s.ip[service.Name]+"$2")
	for _, v := range service.Volumes {
		whole := regexp.MustCompile(`(^|[\s"'=])` + regexp.QuoteMeta(v.Target) + `(/|$|[\s"'])`)
		text = whole.ReplaceAllString(text, "${1}"+s.place(service, v.Target)+"${2}")
	}
	return text
}

// place is where a container's path lies.
func (s *system) place(service *types.ServiceConfig, target string) string {
	return filepath.Join(s.dir, service.Name, filepath.FromSlash(target))
}

// mount copies what a service mounts to its place, with addresses and paths made local.
func (s *system) mount(service *types.ServiceConfig) error {
	for _, v := range service.Volumes {
		to := s.place(service, v.Target)
		if v.Type != types.VolumeTypeBind {
			if err := os.MkdirAll(to, 0o755); err != nil {
				return err
			}
			continue
		}
		err := filepath.WalkDir(v.Source, func(from string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(from)
			if err != nil {
				return err
			}
			file := filepath.Join(to, strings.TrimPrefix(from, v.Source))
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				return err
			}
			return os.WriteFile(file, []byte(s.local(service, string(text))), 0o644)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// up starts services and all they depend on, in the order and under the conditions that the file states. hooks are called
// when a one-shot service has completed.
func (s *system) up(ctx context.Context, hooks map[string]func(), names ...string) {
	s.t.Helper()
	for _, name := range names {
		if s.running[name] != nil {
			continue
		}
		config, ok := s.project.Services[name]
		if !ok {
			s.t.Fatalf("the file has no service %s", name)
		}
		for _, on := range slices.Sorted(maps.Keys(config.DependsOn)) {
			s.up(ctx, hooks, on)
			before := s.running[on]
			switch config.DependsOn[on].Condition {
			case types.ServiceConditionHealthy:
				s.waitHealthy(ctx, before)
			case types.ServiceConditionCompletedSuccessfully:
				s.waitCompleted(ctx, before)
				if hook := hooks[on]; hook != nil {
					delete(hooks, on)
					hook()
				}
			}
		}
		s.start(config)
	}
}

func (s *system) start(config types.ServiceConfig) {
	s.t.Helper()
	run := &service{ServiceConfig: config, done: make(chan struct{})}
	if err := s.mount(&config); err != nil {
		s.t.Fatalf("mounts of %s: %v", config.Name, err)
	}
	argv, dir := s.programs.container(&config, s.place(&config, "/data"))
	if argv == nil {
		s.t.Fatalf("no program stands for the image %s of %s", config.Image, config.Name)
	}
	for i := range argv[1:] {
		argv[i+1] = s.local(&config, argv[i+1])
	}
	run.cmd = exec.Command(argv[0], argv[1:]...)
	run.cmd.Dir = dir
	run.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "CLOUDSDK_CORE_DISABLE_PROMPTS=1"}
	for key, value := range config.Environment {
		if value != nil {
			run.cmd.Env = append(run.cmd.Env, key+"="+s.local(&config, *value))
		}
	}
	run.cmd.Stdout, run.cmd.Stderr = &run.output, &run.output
	// A group of its own, so that it can be ended whole; and Linux ends it when the thread that started it dies, so that
	// thread waits for it.
	run.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	run.cmd.WaitDelay = time.Second // a program's children may hold its output open
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := run.cmd.Start()
		started <- err
		if err == nil {
			run.err = run.cmd.Wait()
			close(run.done)
		}
	}()
	if err := <-started; err != nil {
		s.t.Fatalf("start %s: %v", config.Name, err)
	}
	s.running[config.Name] = run
	s.t.Logf("%-10s %s: %s", config.Name, s.ip[config.Name], strings.Join(argv, " "))
}

// waitHealthy runs the service's own health check until it passes.
func (s *system) waitHealthy(ctx context.Context, on *service) {
	s.t.Helper()
	check := on.HealthCheck
	patience := time.Duration(*check.Retries+1) * time.Duration(*check.Interval)
	if check.StartPeriod != nil {
		patience += time.Duration(*check.StartPeriod)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	argv := slices.Clone(check.Test[1:])
	if argv[0] = s.programs.inImage(argv[0]); check.Test[0] != "CMD" {
		s.t.Fatalf("%s: only health checks without a shell work in every image, not %s", on.Name, check.Test)
	}
	for i := range argv[1:] {
		argv[i+1] = s.local(&on.ServiceConfig, argv[i+1])
	}
	for tick := time.NewTicker(250 * time.Millisecond); ; {
		out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
		if err == nil {
			tick.Stop()
			return
		}
		select {
		case <-on.done:
			s.t.Fatalf("%s ended before it was healthy: %v\n%s", on.Name, on.err, &on.output)
		case <-ctx.Done():
			s.t.Fatalf("%s is not healthy after %s: %v\n%s\nit said:\n%s", on.Name, patience, err, out, &on.output)
		case <-tick.C:
		}
	}
}

func (s *system) waitCompleted(ctx context.Context, on *service) {
	s.t.Helper()
	select {
	case <-on.done:
		if on.err != nil {
			s.t.Fatalf("%s failed: %v\n%s", on.Name, on.err, &on.output)
		}
	case <-ctx.Done():
		s.t.Fatalf("%s has not completed: %v\n%s", on.Name, ctx.Err(), &on.output)
	}
}

// stop ends a service as `docker compose stop` does, and returns how its process ended.
func (s *system) stop(name string) error {
	run := s.running[name]
	if run == nil {
		return nil
	}
	delete(s.running, name)
	grace := 10 * time.Second
	if run.StopGracePeriod != nil {
		grace = time.Duration(*run.StopGracePeriod)
	}
	// The group: gcloud's Java outlives gcloud.
	err := syscall.Kill(-run.cmd.Process.Pid, syscall.SIGTERM)
	select {
	case <-run.done:
	case <-time.After(grace):
		err = fmt.Errorf("%s has not ended within its grace of %s", name, grace)
	}
	if kill := syscall.Kill(-run.cmd.Process.Pid, syscall.SIGKILL); kill != nil && !errors.Is(kill, syscall.ESRCH) {
		err = errors.Join(err, kill)
	}
	<-run.done
	if errors.Is(err, syscall.ESRCH) {
		err = nil // it had ended already
	}
	if err != nil {
		return err
	}
	return run.err
}

func (s *system) stopAll() {
	// Users of a service before the service.
	for len(s.running) > 0 {
		for _, name := range slices.Sorted(maps.Keys(s.running)) {
			used := false
			for _, other := range s.running {
				_, uses := other.DependsOn[name]
				used = used || uses
			}
			if used {
				continue
			}
			run := s.running[name]
			err := s.stop(name)
			if s.t.Failed() {
				s.t.Logf("%s ended with %v; it said:\n%s", name, err, &run.output)
			}
		}
	}
}

// output keeps the last of what a program says.
type output struct {
	mu   sync.Mutex
	text []byte
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, b...)
	if cut := len(o.text) - 64<<10; cut > 0 {
		o.text = append(o.text[:0], o.text[cut:]...)
	}
	return len(b), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(bytes.TrimSpace(o.text))
}

var _ io.Writer = (*output)(nil)

// programs are what stands here for the images.
type programs struct {
	spanledger, spannerGateway, gcloud, fakeGCS, prometheus string
}

// container is the command that a service's container would run, and its working directory.
func (p programs) container(s *types.ServiceConfig, data string) (argv []string, dir string) {
	repository, _, _ := strings.Cut(s.Image, ":")
	switch path.Base(repository) {
	case "spanledger":
		return append([]string{p.spanledger}, s.Command...), ""
	case "emulator":
		return slices.Clone(s.Command), filepath.Dir(p.spannerGateway)
	case "google-cloud-cli":
		return append([]string{p.gcloud}, s.Command[1:]...), ""
	case "fake-gcs-server":
		return append([]string{p.fakeGCS, "-data", data}, s.Command...), "" // the image's entry point
	case "prometheus":
		return append([]string{p.prometheus}, s.Command...), ""
	}
	return nil, ""
}

// inImage is what a program of an image is here.
func (p programs) inImage(name string) string {
	if name == "/usr/local/bin/spanledger" {
		return p.spanledger
	}
	return name // curl and wget
}
