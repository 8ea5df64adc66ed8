package compose

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/goccy/go-yaml"
)

const (
	base     = "docker-compose.yaml"
	override = "docker-compose.goccy.yaml"
)

var combinations = map[string][]string{"base": {base}, "with the public BigQuery emulator": {base, override}}

func root(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// load reads the files as Compose 2 and 5 do: with schema validation, consistency checks, and an empty environment.
func load(t testing.TB, files ...string) *types.Project {
	t.Helper()
	details := types.ConfigDetails{WorkingDir: root(t), Environment: types.Mapping{}}
	for _, f := range files {
		details.ConfigFiles = append(details.ConfigFiles, types.ConfigFile{Filename: filepath.Join(root(t), f)})
	}
	p, err := loader.LoadWithContext(context.Background(), details, func(o *loader.Options) {
		o.SetProjectName("spanledger", true)
		o.ResolvePaths = true
	})
	if err != nil {
		t.Fatalf("%s: %v", files, err)
	}
	return p
}

func TestLoads(t *testing.T) {
	for name, files := range combinations {
		p := load(t, files...)
		if len(p.Services) != 10 {
			t.Errorf("%s: services %v", name, slices.Sorted(maps.Keys(p.Services)))
		}
		if len(p.DisabledServices) != 0 {
			t.Errorf("%s: `up` leaves out %v", name, p.DisabledServices)
		}
	}
}

// TestCommands has every Compose on this machine read the files.
func TestCommands(t *testing.T) {
	found := false
	for _, command := range [][]string{{"docker-compose"}, {"docker", "compose"}} {
		path, err := exec.LookPath(command[0])
		if err != nil {
			continue
		}
		version, err := exec.Command(path, append(command[1:], "version")...).CombinedOutput()
		if err != nil {
			continue // a docker without the plugin
		}
		found = true
		first, _, _ := strings.Cut(string(version), "\n")
		t.Logf("%s: %s", strings.Join(command, " "), first)
		for name, files := range combinations {
			args := slices.Clone(command[1:])
			for _, f := range files {
				args = append(args, "-f", f)
			}
			cmd := exec.Command(path, append(args, "config", "-q")...)
			cmd.Dir = root(t)
			if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%s, %s: %v\n%s", command, name, err, out)
			}
		}
	}
	if !found {
		t.Skip("SKIPPED: there is neither docker-compose nor docker compose on this machine (Debian: apt-get install docker-compose)")
	}
}

// The keys of Compose 1.29 that these files may use, by level; whatever is not here needs a look at its schema.
var oldKeys = map[string][]string{
	"":             {"services", "networks", "volumes"},
	"service":      {"build", "cap_add", "cap_drop", "command", "depends_on", "entrypoint", "environment", "expose", "extra_hosts", "healthcheck", "hostname", "image", "init", "labels", "networks", "ports", "profiles", "pull_policy", "read_only", "restart", "security_opt", "stop_grace_period", "stop_signal", "tmpfs", "user", "volumes", "working_dir"},
	"build":        {"context", "dockerfile", "args", "labels", "target"},
	"dependency":   {"condition"},
	"healthcheck":  {"test", "interval", "timeout", "retries", "start_period", "disable"},
	"volume":       {"driver", "driver_opts", "labels"},
	"pull_policy":  {"always", "never", "if_not_present", "build"},
	"condition":    {"service_started", "service_healthy", "service_completed_successfully"},
	"port, volume": {}, // short forms only
}

func TestOldKeys(t *testing.T) {
	for _, file := range []string{base, override} {
		text, err := os.ReadFile(filepath.Join(root(t), file))
		if err != nil {
			t.Fatal(err)
		}
		var doc map[string]any
		if err := yaml.Unmarshal(text, &doc); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, err := range checkOldKeys(doc) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestOldKeysRefused proves that the check sees what Compose 1.29 does not know.
func TestOldKeysRefused(t *testing.T) {
	for _, text := range []string{
		"name: x", "include: [a.yaml]", "services: {a: {develop: {}}}", "services: {a: {depends_on: {b: {condition: service_started, required: false}}}}",
		"services: {a: {healthcheck: {start_interval: 1s}}}", "services: {a: {build: {dockerfile_inline: FROM x}}}", "services: {a: {pull_policy: missing}}",
		"services: {a: {ports: [{target: 1}]}}", "services: {a: {volumes: [{type: image}]}}", "configs: {a: {content: x}}", "services: {a: {depends_on: {b: {condition: healthy}}}}",
	} {
		var doc map[string]any
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
			t.Fatal(err)
		}
		if len(checkOldKeys(doc)) == 0 {
			t.Errorf("took %s", text)
		}
	}
}

func checkOldKeys(doc map[string]any) (errs []error) {
	keys := func(level, where string, m any) map[string]any {
		object, ok := m.(map[string]any)
		if !ok && m != nil {
			errs = append(errs, fmt.Errorf("%s: %v is not a mapping", where, m))
		}
		for k := range object {
			if !slices.Contains(oldKeys[level], k) && !(level == "" && strings.HasPrefix(k, "x-")) {
				errs = append(errs, fmt.Errorf("%s: Compose 1.29 does not know %q", where, k))
			}
		}
		return object
	}
	value := func(level, where string, v any) {
		if s, ok := v.(string); v != nil && (!ok || !slices.Contains(oldKeys[level], s)) {
			errs = append(errs, fmt.Errorf("%s: Compose 1.29 does not know the %s %v", where, level, v))
		}
	}
	keys("", "top", doc)
	services, _ := doc["services"].(map[string]any)
	for name, s := range services {
		service := keys("service", name, s)
		value("pull_policy", name, service["pull_policy"])
		keys("build", name+".build", service["build"])
		keys("healthcheck", name+".healthcheck", service["healthcheck"])
		dependencies, _ := service["depends_on"].(map[string]any)
		for on, d := range dependencies {
			value("condition", name+".depends_on."+on, keys("dependency", name+".depends_on."+on, d)["condition"])
		}
		for _, key := range []string{"ports", "volumes"} {
			list, _ := service[key].([]any)
			for _, v := range list {
				if _, ok := v.(string); !ok {
					errs = append(errs, fmt.Errorf("%s.%s: only short forms are safe in every Compose: %v", name, key, v))
				}
			}
		}
	}
	volumes, _ := doc["volumes"].(map[string]any)
	for name, v := range volumes {
		keys("volume", "volumes."+name, v)
	}
	return errs
}

// TestPromises checks what the file's comments promise.
func TestPromises(t *testing.T) {
	pinned := regexp.MustCompile(`:v?[0-9]+\.[0-9]+\.[0-9]+[a-z0-9.-]*(@sha256:[0-9a-f]{64})?$`)
	for name, files := range combinations {
		p := load(t, files...)
		published := map[string]string{}
		waited := map[string]bool{}
		for _, s := range p.Services {
			for on, d := range s.DependsOn {
				waited[on] = waited[on] || d.Condition == types.ServiceConditionCompletedSuccessfully && len(s.Ports) > 0
				if d.Condition == types.ServiceConditionHealthy && p.Services[on].HealthCheck == nil {
					t.Errorf("%s: %s waits for the health of %s, which has no health check", name, s.Name, on)
				}
			}
		}
		for _, s := range p.Services {
			if s.Image != "spanledger:local" && !pinned.MatchString(s.Image) {
				t.Errorf("%s: the image of %s is not pinned: %s", name, s.Name, s.Image)
			}
			if s.Build != nil && s.Name != "image" {
				t.Errorf("%s: %s builds an image: only the service image does", name, s.Name)
			}
			if s.ContainerName != "" || s.Privileged || s.NetworkMode != "" {
				t.Errorf("%s: %s has a fixed container name, privileges, or another network", name, s.Name)
			}
			for _, port := range s.Ports {
				if port.HostIP != "127.0.0.1" {
					t.Errorf("%s: %s publishes port %s on %q, not on loopback", name, s.Name, port.Published, port.HostIP)
				}
				if other, ok := published[port.Published]; ok {
					t.Errorf("%s: %s and %s publish port %s", name, s.Name, other, port.Published)
				}
				published[port.Published] = s.Name
			}
			for _, v := range s.Volumes {
				if v.Type != types.VolumeTypeBind {
					continue
				}
				// A missing source would become an empty directory of root's.
				if _, err := os.Stat(v.Source); err != nil {
					t.Errorf("%s: %s mounts what is not there: %v", name, s.Name, err)
				}
				if !v.ReadOnly {
					t.Errorf("%s: %s mounts %s writable", name, s.Name, v.Source)
				}
			}
			for key := range s.Environment {
				if regexp.MustCompile(`PASSWORD|SECRET|TOKEN|CREDENTIAL`).MatchString(key) {
					t.Errorf("%s: %s has the secret %s in its environment", name, s.Name, key)
				}
			}
			// `up --wait` takes a service that has ended for a failure unless one that goes on waits for its success.
			if oneShot := s.Restart == "" && len(s.Ports) == 0; oneShot && !waited[s.Name] {
				t.Errorf("%s: no lasting service waits for %s to complete, so `up --wait` would fail", name, s.Name)
			}
		}
	}
}

// TestOverride checks that the override leaves in place what it does not speak of.
func TestOverride(t *testing.T) {
	p := load(t, base, override)
	for _, name := range []string{"init", "run"} {
		env := p.Services[name].Environment
		if d := env["BIGQUERY_DELIVERY"]; d == nil || *d != "at-least-once" || env["SPANNER_EMULATOR_HOST"] == nil {
			t.Errorf("the environment of %s is %v", name, env)
		}
	}
	if s := p.Services["bigquery"]; s.ReadOnly || len(s.Ports) != 2 || s.Build != nil {
		t.Errorf("bigquery is %+v", s)
	}
}

// TestBuildContext proves that .dockerignore leaves in what the Dockerfile's build needs, and leaves out what it promises.
func TestBuildContext(t *testing.T) {
	dir := t.TempDir()
	out, err := exec.Command("git", "-C", root(t), "ls-files", "--cached", "--others", "--exclude-standard", "-z").Output()
	if err != nil {
		t.Skipf("SKIPPED: the files of the repository are not known without git: %v", err)
	}
	ignored := ignorePatterns(t)
	kept := 0
	for file := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if ignored(file) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root(t), file))
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted and not yet committed
		}
		if err == nil {
			err = os.MkdirAll(filepath.Join(dir, filepath.Dir(file)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file), text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, "_test.go") || strings.HasPrefix(file, ".git/") {
			t.Errorf("%s is in the build's context", file)
		}
		kept++
	}
	list := exec.Command("go", "list", "-deps", "-mod=readonly", "./cmd/spanledger")
	list.Dir, list.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := list.CombinedOutput(); err != nil {
		t.Errorf("in the %d files of the context the build would fail: %v\n%s", kept, err, out)
	}
}

// ignorePatterns reads .dockerignore, as far as it is written: names at the top, and **/ before a name anywhere.
func ignorePatterns(t *testing.T) func(file string) bool {
	text, err := os.ReadFile(filepath.Join(root(t), ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	var patterns []*regexp.Regexp
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if strings.ContainsAny(line, "!?[\\") {
			t.Fatalf(".dockerignore: this test does not know what %s means", line)
		}
		name, anywhere := strings.CutPrefix(line, "**/")
		expr := strings.ReplaceAll(regexp.QuoteMeta(name), `\*`, `[^/]*`)
		if anywhere {
			expr = `(.*/)?` + expr
		}
		patterns = append(patterns, regexp.MustCompile(`^`+expr+`(/.*)?$`))
	}
	return func(file string) bool {
		return slices.ContainsFunc(patterns, func(p *regexp.Regexp) bool { return p.MatchString(file) })
	}
}
