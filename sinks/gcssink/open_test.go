package gcssink

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/spanledger/spanledger/archive"
	"github.com/spanledger/spanledger/change/avro"
	"github.com/spanledger/spanledger/sinks"
)

func TestOpen(t *testing.T) {
	manifest := `{"format":1,"database":"projects/p/instances/i/databases/d","stream":"s"}`
	for name, test := range map[string]struct {
		manifest string
		bucket   string
		answer   int
		says     string // "" if it opens
	}{
		"new":              {},
		"again":            {manifest: manifest},
		"another stream":   {manifest: strings.Replace(manifest, `"s"`, `"t"`, 1), says: "prefix of its own"},
		"another database": {manifest: strings.Replace(manifest, "databases/d", "databases/e", 1), says: "databases/e"},
		"a newer format":   {manifest: strings.Replace(manifest, "1", "2", 1), says: "newer release"},
		"no manifest":      {manifest: "hello", says: "not a manifest"},
		"no bucket":        {bucket: "nowhere", says: "gcloud storage buckets create gs://nowhere"},
		"no right":         {answer: http.StatusForbidden, says: "roles/storage.objectViewer"},
		"no account":       {answer: http.StatusUnauthorized, says: "grant"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "")
			if test.manifest != "" {
				if _, err := w.clean.Create(t.Context(), archive.Object{Name: "archive.json"}, []byte(test.manifest)); err != nil {
					t.Fatal(err)
				}
			}
			o := w.options()
			if test.bucket != "" {
				o.Bucket = test.bucket
			}
			f := &faults{}
			if test.answer != 0 {
				f.answer = func(r *http.Request) *http.Response { return answer(r, test.answer) }
			}
			s := w.sink(t, o, f)
			err := s.Open(t.Context())
			if closeErr := s.Close(t.Context()); closeErr != nil {
				t.Error(closeErr)
			}
			if test.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantStop(t, err, test.says)
		})
	}
}

// A Cloud Storage that is away for a moment stops nothing for good.
func TestOpenLater(t *testing.T) {
	w := newWorld(t, "")
	f := &faults{plan: []fault{refuse, refuse, refuse, refuse, refuse, refuse}}
	s := w.sink(t, w.options(), f)
	if err := s.Open(t.Context()); err == nil || sinks.IsStop(err) {
		t.Errorf("Open = %v", err)
	}
	f = &faults{plan: []fault{refuse, throttle, pass, lose, lose}}
	w.opened(t, w.options(), f)
}

func TestManifestBytes(t *testing.T) {
	w := newWorld(t, "")
	o := w.options()
	o.Identity = "2026-01-01T00:00:00Z"
	w.opened(t, o, nil)
	want := `{
  "format": 1,
  "database": "projects/p/instances/i/databases/d",
  "stream": "s",
  "identity": "2026-01-01T00:00:00Z"
}
`
	if got := string(w.data(t, "archive.json")); got != want {
		t.Errorf("archive.json is\n%s", got)
	}
}

func TestOptions(t *testing.T) {
	good := Options{Bucket: "b", Database: "d", Stream: "s"}
	s, err := New("n", good)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Spec(); got.MaxBytes != 32<<20 || got.MaxChanges != 100_000 || got.MaxDelay != time.Minute || s.codec != avro.Deflate {
		t.Errorf("defaults: %+v", got)
	}
	for says, spoil := range map[string]func(o *Options){
		"bucket":       func(o *Options) { o.Bucket = "gs://b" },
		"database":     func(o *Options) { o.Database = "" },
		"stream":       func(o *Options) { o.Stream = "" },
		"prefix":       func(o *Options) { o.Prefix = "/a" },
		"two in a row": func(o *Options) { o.Prefix = "a//b" },
		"max_bytes":    func(o *Options) { o.MaxBytes = 1 },
		"max_changes":  func(o *Options) { o.MaxChanges = -1 },
		"max_delay":    func(o *Options) { o.MaxDelay = "-1s" },
		"endpoint":     func(o *Options) { o.Endpoint = "127.0.0.1:1" },
		"codec":        func(o *Options) { o.Codec = "zip" },
	} {
		o := good
		spoil(&o)
		if _, err := New("n", o); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}
