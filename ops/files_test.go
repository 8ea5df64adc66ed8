package ops_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"go.uber.org/goleak"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/ops/metrics"
	"github.com/spanledger/spanledger/pipeline"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Google's client libraries start these when they are imported or first used, and never end them.
		goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"),
		goleak.IgnoreTopFunction("github.com/googleapis/gax-go/v2/internallog.init.func1"),
	)
}

// dashboard is Grafana's classic model, as far as we use it; decoding it is strict.
type dashboard struct {
	ID            *int     `json:"id"`
	UID           string   `json:"uid"`
	Title         string   `json:"title"`
	Description   string   `json:"description"`
	Tags          []string `json:"tags"`
	SchemaVersion int      `json:"schemaVersion"`
	Editable      bool     `json:"editable"`
	GraphTooltip  int      `json:"graphTooltip"`
	Refresh       string   `json:"refresh"`
	Timezone      string   `json:"timezone"`
	Time          any      `json:"time"`
	Links         []any    `json:"links"`
	Templating    struct {
		List []struct {
			Type       string      `json:"type"`
			Name       string      `json:"name"`
			Label      string      `json:"label"`
			Datasource *datasource `json:"datasource"`
			Query      any         `json:"query"`
			Definition string      `json:"definition"`
			Refresh    int         `json:"refresh"`
			Sort       int         `json:"sort"`
			IncludeAll bool        `json:"includeAll"`
			AllValue   string      `json:"allValue"`
			Multi      bool        `json:"multi"`
			Options    []any       `json:"options"`
			Current    struct {
				Text  any `json:"text"`
				Value any `json:"value"`
			} `json:"current"`
		} `json:"list"`
	} `json:"templating"`
	Annotations struct {
		List []struct {
			Name        string     `json:"name"`
			Datasource  datasource `json:"datasource"`
			Enable      bool       `json:"enable"`
			IconColor   string     `json:"iconColor"`
			Expr        string     `json:"expr"`
			TitleFormat string     `json:"titleFormat"`
			TextFormat  string     `json:"textFormat"`
			Step        string     `json:"step"`
		} `json:"list"`
	} `json:"annotations"`
	Panels []panel `json:"panels"`
}

type datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

type panel struct {
	ID          int         `json:"id"`
	Type        string      `json:"type"`
	Title       string      `json:"title"`
	Description string      `json:"description"`
	Datasource  *datasource `json:"datasource"`
	Collapsed   bool        `json:"collapsed"`
	GridPos     struct {
		X, Y, W, H int
	} `json:"gridPos"`
	Targets []struct {
		RefID        string     `json:"refId"`
		Datasource   datasource `json:"datasource"`
		Expr         string     `json:"expr"`
		LegendFormat string     `json:"legendFormat"`
		Range        bool       `json:"range"`
		Instant      bool       `json:"instant"`
	} `json:"targets"`
	FieldConfig struct {
		Defaults struct {
			Unit       string `json:"unit"`
			Min        *int   `json:"min"`
			Thresholds any    `json:"thresholds"`
			Custom     any    `json:"custom"`
		} `json:"defaults"`
		Overrides []any `json:"overrides"`
	} `json:"fieldConfig"`
	Options any     `json:"options"`
	Panels  []panel `json:"panels"`
}

func readDashboard(t *testing.T) *dashboard {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(readFile(t, "grafana/dashboards/spanledger.json")))
	dec.DisallowUnknownFields()
	var d dashboard
	if err := dec.Decode(&d); err != nil {
		t.Fatal(err)
	}
	return &d
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.FromSlash(name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type rules struct {
	Groups []struct {
		Name  string
		Rules []rule
	}
}

type rule struct {
	Record, Alert, Expr, For string
	Labels, Annotations      map[string]string
}

// readRules answers the recorded names and the alerts.
func readRules(t *testing.T) (records, alerts []rule) {
	t.Helper()
	var rs rules
	if err := yaml.UnmarshalWithOptions(readFile(t, "prometheus/rules.yaml"), &rs, yaml.DisallowUnknownField()); err != nil {
		t.Fatal(err)
	}
	for _, g := range rs.Groups {
		for _, r := range g.Rules {
			if r.Alert != "" {
				alerts = append(alerts, r)
			} else {
				records = append(records, r)
			}
		}
	}
	return records, alerts
}

// TestDashboardIsWellFormed checks what Grafana would only show as a broken panel.
func TestDashboardIsWellFormed(t *testing.T) {
	d := readDashboard(t)
	text := string(readFile(t, "grafana/dashboards/spanledger.json"))
	if d.ID != nil || d.UID == "" || d.Editable || strings.Contains(text, "__inputs") || strings.Contains(text, "${DS_") {
		t.Error("id must be null, uid set, editable false, and no inputs of an export left")
	}
	ids := map[int]bool{}
	taken := map[[2]int]string{}
	panels := 0
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("%s: the id %d is used twice", p.Title, p.ID)
		}
		ids[p.ID] = true
		if p.GridPos.X+p.GridPos.W > 24 || p.GridPos.W < 1 || p.GridPos.H < 1 {
			t.Errorf("%s does not fit the grid: %+v", p.Title, p.GridPos)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other, ok := taken[[2]int{x, y}]; ok {
					t.Fatalf("%s lies over %s", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		panels++
		if p.Title == "" || p.Description == "" || p.FieldConfig.Defaults.Unit == "" || p.Datasource == nil || len(p.Targets) == 0 {
			t.Errorf("panel %d %q needs a title, a description, a unit, a datasource and a query", p.ID, p.Title)
		}
		for _, q := range p.Targets {
			if q.Datasource.UID != "${datasource}" || (q.Range == q.Instant) {
				t.Errorf("%s: the query must use ${datasource}, and be a range or an instant", p.Title)
			}
			if strings.Contains(q.Expr, "rate(") && !strings.Contains(q.Expr, "$__rate_interval") {
				t.Errorf("%s: a rate over a fixed range: %s", p.Title, q.Expr)
			}
		}
	}
	if panels < 20 {
		t.Errorf("%d panels", panels)
	}
	if !strings.Contains(string(readFile(t, "grafana/provisioning/datasources/prometheus.yaml")), "uid: "+d.Templating.List[0].Current.Value.(string)) {
		t.Error("the provisioned datasource has another uid than the dashboard's default")
	}
}

var metricName = regexp.MustCompile(`\b(?:[a-z_]+:)?spanledger_[a-z0-9_]+(?::[a-z0-9_]+)?`)

// TestMetricNames: what dashboard and rules ask for is exposed or recorded, and nothing is exposed that nobody looks at.
func TestMetricNames(t *testing.T) {
	exposed := exposedNames(t)
	records, alerts := readRules(t)
	recorded := map[string]bool{}
	for _, r := range records {
		recorded[r.Record] = true
	}
	used := map[string]bool{}
	look := func(where, expr string) {
		for _, name := range metricName.FindAllString(expr, -1) {
			base := name
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				if b, ok := strings.CutSuffix(name, suffix); ok && slices.Contains(exposed, b) {
					base = b
				}
			}
			if !recorded[name] && !slices.Contains(exposed, base) {
				t.Errorf("%s asks for %s, which is neither exposed nor recorded", where, name)
			}
			used[base] = true
		}
	}
	for _, r := range append(records, alerts...) {
		look(r.Record+r.Alert, r.Expr)
	}
	d := readDashboard(t)
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			look(p.Title, q.Expr)
		}
	}
	for _, v := range d.Templating.List {
		look(v.Name, v.Definition)
	}
	for _, name := range exposed {
		if strings.HasPrefix(name, "spanledger_") && !used[name] {
			t.Errorf("%s is exposed and looked at by no panel and no rule", name)
		}
	}
}

// exposedNames are the metrics of a process whose pipeline has done everything.
func exposedNames(t *testing.T) []string {
	t.Helper()
	m := metrics.New()
	p := m.Pipeline("p")
	p.SetRetention(time.Hour)
	p.Watch(busy{})
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	return names
}

type busy struct{}

func (busy) Status() pipeline.Status {
	now := time.Now()
	return pipeline.Status{
		Heard: now, Watermark: change.TimestampOf(now), Checkpointed: now,
		Sinks: []pipeline.SinkStatus{{Name: "s", LastSegment: now, Watermark: 1}},
	}
}

var runbookHeadings = []string{"\n## Symptom\n", "\n## Check\n", "\n## Remedy\n"}

// TestEveryAlertSaysWhatToDo: severity, summary, description, and a runbook that exists and has its parts; no page is
// left of an alert that is gone, and no link leads nowhere.
func TestEveryAlertSaysWhatToDo(t *testing.T) {
	_, alerts := readRules(t)
	pages := map[string]bool{"README.md": true}
	index := string(readFile(t, "runbooks/README.md"))
	for _, a := range alerts {
		page := a.Alert + ".md"
		pages[page] = true
		if a.Labels["severity"] != "critical" && a.Labels["severity"] != "warning" {
			t.Errorf("%s: the severity is %q", a.Alert, a.Labels["severity"])
		}
		if !strings.HasPrefix(a.Alert, "Spanledger") || a.For == "" || a.Annotations["summary"] == "" || a.Annotations["description"] == "" ||
			!strings.HasSuffix(a.Annotations["runbook_url"], "/ops/runbooks/"+page) {
			t.Errorf("%s lacks for, summary, description or its runbook: %v", a.Alert, a.Annotations)
		}
		if strings.Contains(a.Annotations["summary"], "{{") {
			t.Errorf("%s: the summary is to be the same each time", a.Alert)
		}
		text := string(readFile(t, "runbooks/"+page))
		for _, h := range runbookHeadings {
			if !strings.Contains(text, h) {
				t.Errorf("%s lacks the part %q", page, strings.TrimSpace(h))
			}
		}
		if !strings.Contains(text, "    ") || !strings.Contains(index, "("+page+") | "+a.Labels["severity"]+" |") {
			t.Errorf("%s shows no command, or the index does not list it as %s", page, a.Labels["severity"])
		}
	}
	files, err := filepath.Glob("runbooks/*.md")
	if err != nil {
		t.Fatal(err)
	}
	links := regexp.MustCompile(`\]\(([^)]+)\)`)
	for _, f := range files {
		if !pages[filepath.Base(f)] {
			t.Errorf("%s is of no alert", f)
		}
		for _, l := range links.FindAllStringSubmatch(string(readFile(t, f)), -1) {
			if _, err := os.Stat(filepath.Join("runbooks", l[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", f, l[1])
			}
		}
	}
}

// TestPromtool has Prometheus's own tool check the files and run the alerts' tests.
func TestPromtool(t *testing.T) {
	promtool := find(t, "promtool")
	for _, args := range [][]string{
		{"check", "rules", "prometheus/rules.yaml"}, {"check", "config", "prometheus/prometheus.yaml"}, {"test", "rules", "prometheus/rules_test.yaml"},
	} {
		if out, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	_, alerts := readRules(t)
	tests := string(readFile(t, "prometheus/rules_test.yaml"))
	for _, a := range alerts {
		name := "        alertname: " + a.Alert + "\n        exp_alerts:"
		if !strings.Contains(tests, name+"\n") || !strings.Contains(tests, name+" []\n") {
			t.Errorf("rules_test.yaml has no test in which %s fires, or none in which it does not", a.Alert)
		}
	}
}

// find is a program of Prometheus's; without it the test is skipped.
func find(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("SKIPPED: %s is not installed, so rules and dashboard were NOT run: apt-get install prometheus", program)
	}
	return path
}
