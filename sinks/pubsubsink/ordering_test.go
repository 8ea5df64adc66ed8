package pubsubsink

import (
	"encoding/json"
	"hash/fnv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/sinktest"
)

func orderingKey(t *testing.T, template string, c *change.Change) string {
	t.Helper()
	o, err := parseOrdering(template, 256)
	if err != nil {
		t.Fatal(err)
	}
	at, err := o.keyParts(c.Table)
	if err != nil {
		t.Fatal(err)
	}
	return string(o.appendKey(nil, c, at))
}

// The keys below are what earlier versions published under: a change of any of them breaks rows' order at an upgrade.
func TestOrderingKeysAreFrozen(t *testing.T) {
	c := sinktest.NewGenerator(1).NextOf(1, 1)[0]
	c.Key = []change.Value{change.Value(`"north/1"`), change.Value(`null`)}
	for template, want := range map[string]string{
		"":                 "bucket-139",
		"buckets":          "bucket-139",
		"full-key":         `shop.stock["north/1",null]`,
		"none":             "",
		"{table}/{store}":  "shop.stock/north/1",
		"{item}":           "null",
		"x{key}y":          `x["north/1",null]y`,
		"{store}{store}--": "north/1north/1--",
	} {
		if got := orderingKey(t, template, &c); got != want {
			t.Errorf("%q makes %q, want %q", template, got, want)
		}
	}
	h := fnv.New64a()
	h.Write([]byte("shop.stock\x00[\"north/1\",null]"))
	if sum := h.Sum64(); (sum^sum>>32)%256 != 139 {
		t.Errorf("the hash is not FNV-1a: bucket %d", (sum^sum>>32)%256)
	}
	c.Key[0] = change.Value(`""`)
	if got := orderingKey(t, "{store}", &c); got != `""` {
		t.Errorf("an empty key makes the ordering key %q, which must not be empty", got)
	}
}

func TestBadTemplates(t *testing.T) {
	for _, s := range []string{"bucket", "{", "}", "{}", "a}b{c}", "{a", "{a{b}}", "text"} {
		if _, err := parseOrdering(s, 1); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
	// A column that is no key would let a row's changes overtake each other.
	server := startServer(t)
	s := openSink(t, server.Endpoint(), Options{Ordering: "{amount}"})
	err := s.Write(t.Context(), &sinks.Batch{Changes: rows(1)})
	if !sinks.IsStop(err) || !strings.Contains(err.Error(), "store, item") && !strings.Contains(err.Error(), "not a key column") {
		t.Errorf("Write: %v, want Stop with the key columns", err)
	}
}

func TestOptions(t *testing.T) {
	for _, test := range []struct{ options, says string }{
		{`{}`, "topic is required"},
		{`{"topic":"ab"}`, "not a topic's id"},
		{`{"topic":"projects/p/subscriptions/s"}`, "projects/P/topics/T"},
		{`{"topic":"projects/p/topics/goog-x"}`, "not beginning with goog"},
		{`{"topic":"changes"}`, "project is required"},
		{`{"topic":"projects/p/topics/changes","project":"q"}`, "leave one out"},
		{`{"topic":"projects/p/topics/changes","format":"xml"}`, "avro-ocf, json"},
		{`{"topic":"projects/p/topics/changes","lanes":300}`, "lanes: 300"},
		{`{"topic":"projects/p/topics/changes","lanes":-1}`, "lanes: -1"},
		{`{"topic":"projects/p/topics/changes","max_delay":"5"}`, "max_delay"},
		{`{"topic":"projects/p/topics/changes","ordering":"key"}`, "ordering"},
		{`{"topic":"projects/p/topics/changes","topics":"x"}`, "unknown field"},
	} {
		t.Setenv("GOOGLE_CLOUD_PROJECT", "")
		_, err := Type.New("s", decode(test.options))
		if err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want the words %q", test.options, err, test.says)
		}
	}
	t.Setenv("GOOGLE_CLOUD_PROJECT", "p")
	s, err := Type.New("s", decode(`{"topic":"changes","max_delay":"5ms"}`))
	if err != nil || s.(*Sink).config.topic != "projects/p/topics/changes" || s.Spec().MaxDelay.String() != "5ms" {
		t.Errorf("%+v, %v", s, err)
	}
}

// Every option of the struct is documented, and the other way round.
func TestOptionsAreDocumented(t *testing.T) {
	b, err := json.Marshal(Options{})
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(b, &fields); err != nil {
		t.Fatal(err)
	}
	for _, o := range Type.Options {
		if _, ok := fields[o.Name]; !ok || o.Doc == "" {
			t.Errorf("option %q is documented but not there, or has no doc", o.Name)
		}
		delete(fields, o.Name)
	}
	if len(fields) > 0 {
		t.Errorf("not documented: %v", fields)
	}
}

func decode(options string) func(any) error {
	return func(into any) error {
		d := json.NewDecoder(strings.NewReader(options))
		d.DisallowUnknownFields()
		return d.Decode(into)
	}
}

func FuzzOrdering(f *testing.F) {
	f.Add("{table}/{store}", "shop.stock", `"north"`)
	f.Add("buckets", "\xff", "null")
	f.Fuzz(func(t *testing.T, template, table, key string) {
		o, err := parseOrdering(template, 16)
		if err != nil {
			return
		}
		c := sinktest.NewGenerator(1).NextOf(1, 1)[0]
		c.Table = change.NewTable(table, 1, c.Table.Columns)
		c.Key = []change.Value{change.Value(key), change.Value(key)}
		at, err := o.keyParts(c.Table)
		if err != nil {
			return
		}
		got := o.appendKey(nil, &c, at)
		if template != "none" && len(got) == 0 || len(got) > maxOrderingKey || !utf8.Valid(got) {
			t.Errorf("ordering key %q", got)
		}
	})
}
