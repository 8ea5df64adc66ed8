package ops_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// prom is a running Prometheus.
type prom struct {
	url    string
	client *http.Client
}

// startPrometheus runs Prometheus on our own configuration and rules, made quick: it scrapes and evaluates several times a
// second, and alerts wait seconds where operators wait minutes. What they ask for stays the same.
func startPrometheus(t *testing.T, target string) *prom {
	t.Helper()
	program := find(t, "prometheus")
	dir := t.TempDir()
	config := replace(t, string(readFile(t, "prometheus/prometheus.yaml")), "_interval: 5s", "_interval: 250ms", `"run:9464"`, strconv.Quote(target))
	rules := replace(t, string(readFile(t, "prometheus/rules.yaml")), "[5m]", "[4s]", "> 600", "> 8", "> 180", "> 5", "> 60", "> 5")
	rules = regexp.MustCompile(`for: \d+m`).ReplaceAllString(rules, "for: 1s")
	for name, text := range map[string]string{"prometheus.yaml": config, "rules.yaml": rules} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	addr := freePort(t)
	var log bytes.Buffer
	cmd := exec.Command(program, "--config.file="+filepath.Join(dir, "prometheus.yaml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+addr, "--log.level=warn")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &prom{url: "http://" + addr, client: &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		p.client.CloseIdleConnections()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		select {
		case err := <-exited:
			if err != nil || t.Failed() {
				t.Logf("prometheus ended: %v\n%s", err, &log)
			}
		case <-time.After(20 * time.Second):
			cmd.Process.Kill()
			<-exited
			t.Errorf("prometheus did not end\n%s", &log)
		}
	})
	p.eventually(t, 20*time.Second, "prometheus is ready", func() error {
		resp, err := p.client.Get(p.url + "/-/ready")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %s", resp.Status)
		}
		return nil
	})
	return p
}

// replace replaces pairs, each of which must be there.
func replace(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("%q is not in the file any more: mend the test", pairs[i])
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// eventually tries f until it answers nil.
func (p *prom) eventually(t *testing.T, within time.Duration, what string, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within %v: %v", what, within, err)
		}
	}
}

// series is one series of an answer, with its labels and its values, as Prometheus writes them, at Unix times.
type series struct {
	Metric map[string]string
	Times  []float64
	Values []string
}

// query asks for the present, or for the last few seconds.
func (p *prom) query(expr string, isRange bool) ([]series, error) {
	if isRange {
		return p.ask(expr, 5*time.Second)
	}
	return p.ask(expr, 0)
}

// ask asks for the time since window ago, or, if it is 0, for the present.
func (p *prom) ask(expr string, window time.Duration) ([]series, error) {
	form, path := url.Values{"query": {expr}}, "/api/v1/query"
	if window > 0 {
		now := time.Now()
		path = "/api/v1/query_range"
		form.Set("start", strconv.FormatFloat(float64(now.Add(-window).UnixMilli())/1e3, 'f', 3, 64))
		form.Set("end", strconv.FormatFloat(float64(now.UnixMilli())/1e3, 'f', 3, 64))
		form.Set("step", "1")
	}
	resp, err := p.client.PostForm(p.url+path, form)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          struct {
			ResultType string
			Result     []struct {
				Metric map[string]string
				Value  []any
				Values [][]any
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("%s: %s", expr, answer.Error)
	}
	var all []series
	for _, r := range answer.Data.Result {
		s := series{Metric: r.Metric}
		for _, v := range append(r.Values, r.Value) {
			if len(v) == 2 {
				s.Times = append(s.Times, v[0].(float64))
				s.Values = append(s.Values, v[1].(string))
			}
		}
		all = append(all, s)
	}
	return all, nil
}

// get answers a page's status and text.
func (p *prom) get(t *testing.T, page string) (int, string) {
	t.Helper()
	resp, err := p.client.Get(page)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// firing are the names of the alerts that fire now.
func (p *prom) firing(t *testing.T) map[string]bool {
	t.Helper()
	found, err := p.query(`ALERTS{alertstate="firing"}`, false)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, s := range found {
		names[s.Metric["alertname"]] = true
	}
	return names
}
