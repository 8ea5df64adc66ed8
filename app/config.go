package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/pipeline"
	"github.com/spanledger/spanledger/pipeline/filter"
	"github.com/spanledger/spanledger/sinks"
)

// Config is a configuration file.
type Config struct {
	// Pipelines are the file's, with names of their own.
	Pipelines []PipelineConfig
	Setup     SetupConfig
	Admin     AdminConfig
}

// SetupConfig is what `spanledger init` cannot learn from the pipelines.
type SetupConfig struct {
	// Events says whether to make the events table of the write path in each source database; nil means yes.
	Events *bool `yaml:"events"`
	// Watch is what a change stream that init makes watches, as after FOR in CREATE CHANGE STREAM; "" means events.
	Watch string `yaml:"watch"`
	// Mutable makes such a change stream with mutable key ranges (partition_mode MUTABLE_KEY_RANGE).
	Mutable bool `yaml:"mutable"`
	// Project is where buckets are made; "" means the project of the pipeline's database.
	Project string `yaml:"project"`
	// Location is where buckets and datasets are made, such as EU; "" leaves it to the service.
	Location string `yaml:"location"`
	// Subscriptions are Pub/Sub subscriptions to make.
	Subscriptions []SubscriptionConfig `yaml:"subscriptions"`
}

// SubscriptionConfig is a Pub/Sub subscription that `spanledger init` makes.
type SubscriptionConfig struct {
	// Name is the subscription's id and Topic that of a topic one of the pipelines publishes to.
	Name  string `yaml:"name"`
	Topic string `yaml:"topic"`
	// Ordered delivers the messages of an ordering key in order; nil means yes. It cannot be changed later.
	Ordered *bool `yaml:"ordered"`
}

// AdminConfig is the admin server's.
type AdminConfig struct {
	// Listen is host:port of the server for metrics and health; "" means none.
	Listen string `yaml:"listen"`
}

// Pipeline finds a pipeline by its name.
func (c *Config) Pipeline(name string) (PipelineConfig, error) {
	var have []string
	for _, p := range c.Pipelines {
		if p.Name == name {
			return p, nil
		}
		have = append(have, p.Name)
	}
	return PipelineConfig{}, fmt.Errorf("no pipeline %q in the file: %s", name, didYouMean(name, have))
}

// The file's form.
type (
	fileConfig struct {
		Pipelines []filePipeline `yaml:"pipelines"`
		Setup     SetupConfig    `yaml:"setup"`
		Admin     AdminConfig    `yaml:"admin"`
	}
	filePipeline struct {
		Name            string      `yaml:"name"`
		Source          fileSource  `yaml:"source"`
		State           fileState   `yaml:"state"`
		Budget          byteSize    `yaml:"budget"`
		CheckpointEvery duration    `yaml:"checkpoint_every"`
		DrainTimeout    duration    `yaml:"drain_timeout"`
		Order           string      `yaml:"order"`
		Filter          fileFilter  `yaml:"filter"`
		Columns         fileColumns `yaml:"columns"`
		Sinks           []fileSink  `yaml:"sinks"`
	}
	fileSource struct {
		Database  string   `yaml:"database"`
		Stream    string   `yaml:"stream"`
		Start     startAt  `yaml:"start"`
		End       endAt    `yaml:"end"`
		Heartbeat duration `yaml:"heartbeat"`

		SilentHeartbeats     int          `yaml:"silent_heartbeats"`
		Priority             string       `yaml:"priority"`
		RequestTag           string       `yaml:"request_tag"`
		Role                 string       `yaml:"role"`
		DirectedReads        fileDirected `yaml:"directed_reads"`
		StreamsPerConnection int          `yaml:"streams_per_connection"`
		Retry                fileRetry    `yaml:"retry"`
		MaxTimestamp         byteSize     `yaml:"max_timestamp"`
		UnknownValues        string       `yaml:"unknown_values"`
		UnknownFields        string       `yaml:"unknown_fields"`
	}
	fileState struct {
		Database string `yaml:"database"`
	}
	fileFilter struct {
		Tables     names    `yaml:"tables"`
		Operations []string `yaml:"operations"`
		Tags       names    `yaml:"tags"`
		System     *bool    `yaml:"system"`
		Where      string   `yaml:"where"`
	}
	fileColumns struct {
		Drop []string `yaml:"drop"`
	}
	fileSink struct {
		Name    string  `yaml:"name"`
		Type    string  `yaml:"type"`
		Options options `yaml:"options"`
	}
)

// LoadConfig reads and checks a configuration file; "-" is standard input's place and not read here. What is wrong with
// it is a ConfigErrors with every mistake. It touches no network.
func LoadConfig(path string) (*Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		var pathErr *os.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err
		}
		return nil, ConfigErrors{{File: path, Message: "cannot be read: " + err.Error(), Hint: "'spanledger config example' prints one to begin with"}}
	}
	return ParseConfig(filepath.ToSlash(path), text, os.LookupEnv)
}

// ParseConfig is LoadConfig on a text. file is its name in errors, lookup the environment.
func ParseConfig(file string, text []byte, lookup func(string) (string, bool)) (*Config, error) {
	registerSinks()
	d := newDecoder(file, lookup)
	var f fileConfig
	d.document(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), &f)
	c := &Config{Setup: f.Setup, Admin: f.Admin}
	if len(f.Pipelines) > 0 || len(d.errs) == 0 {
		c.Pipelines = d.pipelines(f.Pipelines)
		d.checkSetup(&f)
	}
	if len(d.errs) > 0 {
		slices.SortStableFunc(d.errs, func(a, b *ConfigError) int {
			if a.Line != b.Line {
				return a.Line - b.Line
			}
			return a.Column - b.Column
		})
		return nil, d.errs
	}
	return c, nil
}

var (
	pipelineName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,63}$`)
	sinkName     = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,63}$`)
	streamName   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
)

func (d *decoder) pipelines(list []filePipeline) []PipelineConfig {
	if len(list) == 0 {
		d.errorOn("pipelines", "see 'spanledger config example'", "there is no pipeline")
	}
	var configs []PipelineConfig
	first := map[string]place{}
	for i := range list {
		at := fmt.Sprintf("pipelines[%d]", i)
		c := d.pipeline(&list[i], at)
		if p, twice := first[c.Name]; twice && c.Name != "" {
			d.errorOn(at+".name", "a pipeline's name is the name of its state: give each its own", "two pipelines are named %s, the first on line %d", c.Name, p.line)
		} else {
			first[c.Name] = d.nearest(at + ".name")
		}
		configs = append(configs, c)
	}
	d.archives(configs)
	return configs
}

// archives refuses an archive with two writers. Chains are a pipeline's own, so both would succeed, and the archive would
// hold every change twice (I6).
func (d *decoder) archives(configs []PipelineConfig) {
	first := map[string]place{}
	for i, c := range configs {
		for j, s := range c.Sinks {
			var o struct{ Bucket, Prefix, Endpoint string }
			if s.Type != "gcs" || json.Unmarshal(s.Options, &o) != nil { // other mistakes are told elsewhere
				continue
			}
			at := fmt.Sprintf("pipelines[%d].sinks[%d].options", i, j)
			archive := o.Endpoint + "|gs://" + o.Bucket + "/" + strings.Trim(o.Prefix, "/")
			if p, twice := first[archive]; twice {
				d.errorOn(at, "give each an archive of its own: another prefix", "two sinks write to one archive, the first on line %d", p.line)
				continue
			}
			first[archive] = d.nearest(at)
		}
	}
}

func (d *decoder) pipeline(f *filePipeline, at string) PipelineConfig {
	c := PipelineConfig{
		Name: f.Name, Database: f.Source.Database, Stream: f.Source.Stream, StateDatabase: f.State.Database,
		Start: f.Source.Start.at, Earliest: f.Source.Start.earliest, Snapshot: f.Source.Start.snapshot, End: change.Timestamp(f.Source.End),
		Heartbeat:   time.Duration(f.Source.Heartbeat),
		BudgetBytes: int(f.Budget), CheckpointEvery: time.Duration(f.CheckpointEvery), DrainTimeout: time.Duration(f.DrainTimeout), Order: pipeline.Order(f.Order),
		Filter: filter.Options{
			Tables: filter.Names(f.Filter.Tables), Operations: f.Filter.Operations, Tags: filter.Names(f.Filter.Tags),
			System: f.Filter.System, Where: f.Filter.Where, Drop: f.Columns.Drop,
		},
	}
	d.require(at+".name", c.Name)
	if c.Name != "" && !pipelineName.MatchString(c.Name) {
		d.errorOn(at+".name", "1 to 64 of a-z, 0-9 and -, a letter first", "%q cannot be a pipeline's name", c.Name)
	}
	d.database(at+".source.database", c.Database)
	d.database(at+".state.database", c.StateDatabase)
	if d.require(at+".source.stream", c.Stream); c.Stream != "" && !streamName.MatchString(c.Stream) {
		d.errorOn(at+".source.stream", "letters, digits and underscores", "%q cannot be a change stream's name", c.Stream)
	}
	if c.End != 0 && c.End < c.Start {
		d.errorOn(at+".source.end", "", "the end %s lies before the start %s", c.End, c.Start)
	}
	if c.Heartbeat != 0 && (c.Heartbeat < 100*time.Millisecond || c.Heartbeat > 5*time.Minute) {
		d.errorOn(at+".source.heartbeat", "from 100ms to 5m; Cloud Spanner itself wants at least 1s", "heartbeat is %s", c.Heartbeat)
	}
	c.Reader = d.reader(&f.Source, f.Budget, at+".source")
	if f.Budget != 0 && f.Budget < 1<<20 {
		d.errorOn(at+".budget", "from 1MiB; the default is 256MiB", "budget is %d bytes", f.Budget)
	}
	if err := c.Order.Check(); err != nil {
		d.errorOn(at+".order", "", "order: %v", err)
	}
	if _, err := filter.New(c.Filter); err != nil {
		d.filterErrors(at, err)
	}
	c.Sinks = d.sinks(f, c, at)
	return c
}

func (d *decoder) require(path, value string) {
	if value == "" && !d.failed(path) {
		parent := path[:strings.LastIndexByte(path, '.')]
		d.errorOn(path, "", "%s is missing%s", lastKey(path), inside(parent))
	}
}

// failed reports whether there is an error at the path's own place already.
func (d *decoder) failed(path string) bool {
	p, ok := d.places[path]
	return ok && slices.ContainsFunc(d.errs, func(e *ConfigError) bool { return e.Line == p.line && e.Column >= p.column })
}

func (d *decoder) database(path, name string) {
	d.require(path, name)
	if name == "" {
		return
	}
	if _, err := parseDatabase(name); err != nil {
		d.errorOn(path, "", "%v", err)
	}
}

// filterErrors puts each mistake of a filter at its line.
func (d *decoder) filterErrors(at string, err error) {
	list := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		list = joined.Unwrap()
	}
	for _, err := range list {
		var o *filter.OptionError
		if !errors.As(err, &o) {
			d.errorOn(at+".filter", "", "filter: %v", err)
			continue
		}
		if nested, ok := err.(interface{ Unwrap() []error }); ok && len(nested.Unwrap()) > 0 {
			d.filterErrors(at, err)
			continue
		}
		path := at + ".filter." + o.Option
		if o.Option == "drop" {
			path = at + ".columns.drop"
		}
		if o.Index >= 0 {
			path = fmt.Sprintf("%s[%d]", path, o.Index)
		}
		d.errorOn(path, "", "%s: %v", lastKey(path), o.Err)
	}
}

func (d *decoder) sinks(f *filePipeline, c PipelineConfig, at string) []SinkConfig {
	if len(f.Sinks) == 0 && !d.failed(at+".sinks") {
		d.errorOn(at+".sinks", "", "pipeline %s has no sinks: name at least one", f.Name)
	}
	var list []SinkConfig
	first := map[string]place{}
	for i := range f.Sinks {
		s, path := &f.Sinks[i], fmt.Sprintf("%s.sinks[%d]", at, i)
		d.require(path+".name", s.Name)
		d.require(path+".type", s.Type)
		if s.Name != "" && !sinkName.MatchString(s.Name) {
			d.errorOn(path+".name", "1 to 64 letters, digits, - and _, a letter first", "%q cannot be a sink's name", s.Name)
		}
		if p, twice := first[s.Name]; twice && s.Name != "" {
			d.errorOn(path+".name", "a sink's name is the name of its checkpoints: give each its own", "two sinks are named %s, the first on line %d", s.Name, p.line)
		} else {
			first[s.Name] = d.nearest(path + ".name")
		}
		sink := SinkConfig{Name: s.Name, Type: s.Type, Options: s.Options.json}
		if s.Type != "" {
			d.sink(sink, s.Options.keys, c, path)
		}
		list = append(list, sink)
	}
	return list
}

// sink tries a sink's options on the sink itself, and finds the lines of its mistakes.
func (d *decoder) sink(s SinkConfig, keys []string, c PipelineConfig, at string) {
	i := slices.IndexFunc(sinks.Types(), func(t sinks.Type) bool { return t.Name == s.Type })
	if i < 0 {
		var have []string
		for _, t := range sinks.Types() {
			have = append(have, t.Name)
		}
		d.errorOn(at+".type", didYouMean(s.Type, have), "no sink is of type %q", s.Type)
		return
	}
	if d.failed(at + ".options") {
		return
	}
	t := sinks.Types()[i]
	var documented []string
	for _, o := range t.Options {
		documented = append(documented, o.Name)
	}
	unknown := false
	for _, k := range keys {
		if len(documented) > 0 && !slices.Contains(documented, k) {
			unknown = true
			d.errorOn(at+".options."+k, didYouMean(k, documented), "a sink of type %s has no option %s", s.Type, k)
		}
	}
	if unknown {
		return
	}
	filled, err := fillOptions(s, c, "check")
	if err == nil {
		_, err = sinks.New(s.Type, s.Name, filled)
	}
	if err != nil {
		text := strings.TrimPrefix(err.Error(), fmt.Sprintf("sink %s (%s): ", s.Name, s.Type))
		d.errorOn(at+".options"+optionNamed(text, keys), optionHint(text), "sink %s: %s", s.Name, text)
	}
}

var (
	jsonField   = regexp.MustCompile(`Go struct field [^ ]*?\.?([A-Za-z0-9_]+) of type`)
	jsonUnknown = regexp.MustCompile(`unknown field "([^"]+)"`)
)

// optionNamed finds the option that a sink's error is about: ".option", or "" where it is about none that was written.
func optionNamed(text string, keys []string) string {
	for _, re := range []*regexp.Regexp{jsonField, jsonUnknown} {
		if m := re.FindStringSubmatch(text); m != nil && slices.Contains(keys, m[1]) {
			return "." + m[1]
		}
	}
	for _, k := range keys {
		if rest, ok := strings.CutPrefix(text, k); ok && (rest == "" || strings.IndexByte(": ", rest[0]) >= 0) {
			return "." + k
		}
	}
	return ""
}

func optionHint(text string) string {
	if strings.Contains(text, "cannot unmarshal number into") && strings.Contains(text, "of type string") {
		return "quote it to make it a text"
	}
	return ""
}

func (d *decoder) checkSetup(f *fileConfig) {
	seen := map[string]bool{}
	for i, s := range f.Setup.Subscriptions {
		at := fmt.Sprintf("setup.subscriptions[%d]", i)
		d.require(at+".name", s.Name)
		d.require(at+".topic", s.Topic)
		if s.Name != "" && seen[s.Name] {
			d.errorOn(at+".name", "", "two subscriptions are named %s", s.Name)
		}
		seen[s.Name] = true
	}
}
