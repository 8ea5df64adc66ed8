package gcssink

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spanledger/spanledger/archive"
	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/change/avro"
	"github.com/spanledger/spanledger/sinks"
)

// appended opens a sink and appends a first batch.
func appended(t *testing.T) (*world, *worker, change.Chain, []change.Change) {
	t.Helper()
	w := newWorld(t, "")
	chain, changes := chainChanges(1, 60)
	k := &worker{faults: &faults{}}
	k.sink = w.opened(t, w.options(), k.faults)
	end, err := k.step(chain, cut(changes, k.end.Through, 5), k.end, nil)
	if err != nil {
		t.Fatal(err)
	}
	k.end = end
	return w, k, chain, changes
}

func wantStop(t *testing.T, err error, says ...string) {
	t.Helper()
	if err == nil || !sinks.IsStop(err) {
		t.Errorf("%v: want an error that stops", err)
		return
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%v\nwant it to say %q", err, s)
		}
	}
}

// A place is the first change's position: whatever is cut, the same first change has the same name.
func TestPlace(t *testing.T) {
	_, k, chain, changes := appended(t)
	s := k.end.Segments[0]
	want, err := archive.SegmentName(chain, changes[0].Position)
	if err != nil || s.Name != want || s.First != changes[0].Position || s.Last != k.end.Through {
		t.Errorf("segment %+v, want the name %s, %v", s, want, err)
	}
}

// A lost answer is made up for by the client, whose own second attempt finds its first; with the client's patience at an
// end it is the engine's next call that finds it. Both answer the same end.
func TestLostAnswer(t *testing.T) {
	for name, plan := range map[string][]fault{
		"client": {lose}, "client, 503": {loseTo503, refuse}, "engine": {lose, refuse, refuse, refuse}, "engine, cancelled": {cancel},
	} {
		t.Run(name, func(t *testing.T) {
			w, k, chain, changes := appended(t)
			k.faults.only = func(r *http.Request) bool { return r.Method == http.MethodPost }
			before := k.end
			batch := cut(changes, before.Through, 7)
			end, err := k.step(chain, batch, before, plan)
			if strings.HasPrefix(name, "engine") {
				if err == nil {
					t.Fatal("the answer was not lost")
				}
				if sinks.IsStop(err) {
					t.Fatal(err)
				}
				end, err = k.step(chain, batch, before, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			if end.Through != batch[len(batch)-1].Position || len(end.Segments) != 1 || end.Segments[0].Generation == 0 {
				t.Errorf("end = %+v", end)
			}
			got, _ := readChain(t, w.clean, chain)
			sameChanges(t, changes[:len(got)], got)
		})
	}
}

// An upload that cannot succeed returns to the engine, whose back-off operators see, after a few attempts.
func TestUploadGivesUp(t *testing.T) {
	_, k, chain, changes := appended(t)
	k.faults.requests = nil
	k.faults.only = func(r *http.Request) bool { return r.Method == http.MethodPost }
	plan := slices.Repeat([]fault{refuse}, 100)
	_, err := k.step(chain, cut(changes, k.end.Through, 7), k.end, plan)
	if err == nil || sinks.IsStop(err) || len(k.faults.requests) != attempts {
		t.Errorf("%v after %d requests, want %d", err, len(k.faults.requests), attempts)
	}
}

func TestThrottled(t *testing.T) {
	_, k, chain, changes := appended(t)
	for reason, code := range map[string]int{"": http.StatusTooManyRequests, "rateLimitExceeded": http.StatusForbidden} {
		k.faults.answer = func(r *http.Request) *http.Response {
			if r.Method != http.MethodPost {
				return nil
			}
			a := answer(r, code)
			a.Header.Set("Retry-After", "7")
			a.Header.Set("Content-Type", "application/json")
			a.Body = io.NopCloser(strings.NewReader(fmt.Sprintf(`{"error":{"code":%d,"errors":[{"reason":%q}]}}`, code, reason)))
			return a
		}
		_, err := k.step(chain, cut(changes, k.end.Through, 7), k.end, nil)
		if err == nil || sinks.IsStop(err) || sinks.RetryAfter(err) != 7*time.Second {
			t.Errorf("%d: %v, to be tried again after %s", code, err, sinks.RetryAfter(err))
		}
	}
}

// Where the account may not replace objects, or a retention policy holds them, an object at the place can answer 403.
func TestForbidden(t *testing.T) {
	w, k, chain, changes := appended(t)
	other := &worker{faults: &faults{}}
	other.sink = w.opened(t, w.options(), other.faults)
	taken, err := other.step(chain, cut(changes, k.end.Through, 3), k.end, nil)
	if err != nil {
		t.Fatal(err)
	}
	k.faults.answer = func(r *http.Request) *http.Response {
		if r.Method != http.MethodPost {
			return nil
		}
		return answer(r, http.StatusForbidden)
	}
	end, err := k.step(chain, cut(changes, k.end.Through, 9), k.end, nil)
	if err != nil || end.Through != taken.Through {
		t.Errorf("at a taken place: through %s, %v; want %s", end.Through, err, taken.Through)
	}
	_, err = k.step(chain, cut(changes, end.Through, 9), end, nil)
	wantStop(t, err, "roles/storage.objectCreator", "gs://ledger/an/archive/")
}

func TestState(t *testing.T) {
	w, k, chain, changes := appended(t)
	batch := cut(changes, k.end.Through, 5)
	digest := strings.Repeat("0", 64)
	for name, test := range map[string]struct{ state, says string }{
		"no JSON":        {"x", "cannot be read"},
		"a newer one":    {`{"v":2,"name":"n","sha256":"` + digest + `"}`, "version 2"},
		"no digest":      {`{"v":1,"name":"n"}`, "cannot be"},
		"half a digest":  {`{"v":1,"name":"n","sha256":"abcd"}`, "cannot be"},
		"no name":        {`{"v":1,"sha256":"` + digest + `"}`, "cannot be"},
		"of no segment":  {`{"v":1,"name":"segments/notes/x.avro","sha256":"` + digest + `"}`, "no segment segments/notes/x.avro"},
		"another digest": {`{"v":1,"name":"` + k.end.Segments[0].Name + `","sha256":"` + digest + `"}`, "checkpoint says"},
	} {
		t.Run(name, func(t *testing.T) {
			s := w.opened(t, w.options(), nil)
			_, err := s.Append(t.Context(), &sinks.Batch{Chain: &chain, Changes: batch}, sinks.End{Through: k.end.Through, State: []byte(test.state)})
			wantStop(t, err, test.says)
		})
	}
	t.Run("state without a position", func(t *testing.T) {
		_, err := k.sink.Append(t.Context(), &sinks.Batch{Chain: &chain, Changes: batch}, sinks.End{State: k.end.State})
		wantStop(t, err, "cannot be")
	})
	t.Run("a checkpoint set ahead", func(t *testing.T) {
		_, err := k.sink.Append(t.Context(), &sinks.Batch{Chain: &chain, Changes: changes[50:]}, sinks.End{Through: changes[49].Position})
		wantStop(t, err, "the archive ends at "+k.end.Through.String())
	})
	t.Run("a checkpoint set back", func(t *testing.T) {
		end, err := k.sink.Append(t.Context(), &sinks.Batch{Chain: &chain, Changes: changes[1:]}, sinks.End{Through: changes[0].Position})
		if err != nil || end.Through != k.end.Through || len(end.Segments) != 1 {
			t.Errorf("%+v, %v", end, err)
		}
	})
}

// A sink that is pointed elsewhere must not begin an archive in the middle of a chain.
func TestAnotherPrefix(t *testing.T) {
	w, k, chain, changes := appended(t)
	o := w.options()
	o.Prefix = "elsewhere"
	s := w.opened(t, o, nil)
	_, err := s.Append(t.Context(), &sinks.Batch{Chain: &chain, Changes: cut(changes, k.end.Through, 5)}, k.end)
	wantStop(t, err, "archived through", "gs://ledger/elsewhere/", "prefix")
}

// The archive's place holds what no segment of the chain is.
func TestForeignObjects(t *testing.T) {
	digest := strings.Repeat("0", 64)
	for name, test := range map[string]struct {
		spoil func(o *archive.Object, data []byte) []byte
		says  string
	}{
		"junk":            {func(o *archive.Object, _ []byte) []byte { o.Metadata = nil; return []byte("junk") }, "no Avro container"},
		"nothing":         {func(o *archive.Object, _ []byte) []byte { o.Metadata = nil; return nil }, "something else wrote"},
		"another token":   {func(o *archive.Object, d []byte) []byte { o.Metadata["spanledger-token"] = "t"; return d }, "metadata are those of"},
		"a newer format":  {func(o *archive.Object, d []byte) []byte { o.Metadata["spanledger-format"] = "9"; return d }, "newer release"},
		"another link":    {func(o *archive.Object, d []byte) []byte { o.Metadata["spanledger-previous-sha256"] = digest; return d }, "the checkpoint says"},
		"a shorter file":  {func(_ *archive.Object, d []byte) []byte { return d[:len(d)-1] }, "bytes"},
		"no digest":       {func(o *archive.Object, d []byte) []byte { delete(o.Metadata, "spanledger-sha256"); return d }, "spanledger-sha256"},
		"cut off, no tag": {func(o *archive.Object, d []byte) []byte { o.Metadata = nil; return d[:len(d)-20] }, "something else wrote"},
	} {
		t.Run(name, func(t *testing.T) {
			w, k, chain, changes := appended(t)
			batch := cut(changes, k.end.Through, 5)
			object, data := encoded(t, chain, k.end, batch)
			data = test.spoil(&object, data)
			if _, err := w.clean.Create(t.Context(), object, data); err != nil {
				t.Fatal(err)
			}
			_, err := k.step(chain, batch, k.end, nil)
			wantStop(t, err, test.says)
		})
	}
}

func encoded(t *testing.T, chain change.Chain, end sinks.End, batch []change.Change) (archive.Object, []byte) {
	t.Helper()
	last, err := lastOf(end)
	if err != nil {
		t.Fatal(err)
	}
	n, schema, err := archive.Run(batch, avro.SchemaOf)
	if err != nil {
		t.Fatal(err)
	}
	_, object, data, err := archive.Encode(chain, last.Link(), schema, avro.Deflate, batch[:n])
	if err != nil {
		t.Fatal(err)
	}
	return object, data
}

// A copy of an archive may have lost its objects' metadata: the files speak for themselves.
func TestMetadataLost(t *testing.T) {
	w, k, chain, changes := appended(t)
	batch := cut(changes, k.end.Through, 5)
	object, data := encoded(t, chain, k.end, batch)
	object.Metadata = nil
	if _, err := w.clean.Create(t.Context(), object, data); err != nil {
		t.Fatal(err)
	}
	end, err := k.step(chain, cut(changes, k.end.Through, 3), k.end, nil)
	if err != nil || end.Through != batch[len(batch)-1].Position {
		t.Fatalf("%+v, %v", end, err)
	}
	found, err := w.opened(t, w.options(), nil).End(t.Context(), chain)
	if err != nil || found.Through != end.Through || !bytes.Equal(found.State, end.State) || len(found.Segments) != 2 || found.Segments[1] != end.Segments[0] {
		t.Errorf("End = %+v, %v; want %+v", found, err, end)
	}
}

// A snapshot row's position holds its key, which can be larger than Cloud Storage allows metadata to be.
func TestLargePositions(t *testing.T) {
	w, k, chain, changes := appended(t)
	key := strings.Repeat("k", 8000)
	batch := slices.Clone(cut(changes, k.end.Through, 2))
	for i := range batch {
		batch[i].Position.Snapshot, batch[i].Position.Transaction, batch[i].Position.Sequence, batch[i].Position.Mod = true, "", key+string(rune('a'+i)), 0
	}
	end, err := k.step(chain, batch, k.end, nil)
	if err != nil || len(end.State) > sinks.MaxState {
		t.Fatalf("%d bytes of state, %v", len(end.State), err)
	}
	o, err := w.clean.Stat(t.Context(), end.Segments[0].Name)
	if err != nil || len(o.Metadata) != 0 {
		t.Errorf("the object has %d pieces of metadata, %v", len(o.Metadata), err)
	}
	found, err := k.ask(chain, nil)
	if err != nil || found.Through != batch[len(batch)-1].Position {
		t.Errorf("End is %.60s, %v", found.Through, err)
	}
}

// The schema is there before the first segment that needs it, and is not created again.
func TestSchemaFirst(t *testing.T) {
	w, k, chain, changes := appended(t)
	for k.end.Through != changes[len(changes)-1].Position {
		end, err := k.step(chain, cut(changes, k.end.Through, 5), k.end, nil)
		if err != nil {
			t.Fatal(err)
		}
		k.end = end
	}
	var schemas, segments []string
	for _, r := range k.faults.requests {
		switch {
		case strings.Contains(r, "name=an%2Farchive%2Fschemas"):
			schemas = append(schemas, r)
		case strings.Contains(r, "name=an%2Farchive%2Fsegments"):
			if len(schemas) == 0 {
				t.Error("a segment came before its schema")
			}
			segments = append(segments, r)
		}
	}
	if len(schemas) != 3 || len(segments) < 5 {
		t.Errorf("%d schemas created for %d segments, want 3", len(schemas), len(segments))
	}
	_, all := readChain(t, w.clean, chain)
	for _, s := range all {
		if _, err := archive.ReadSchema(t.Context(), w.clean, chain.Table, s.Fingerprint); err != nil {
			t.Error(err)
		}
	}
	// What else stands under a schema's name is refused.
	schema, err := avro.SchemaOf(changes[0].Table)
	if err != nil {
		t.Fatal(err)
	}
	o := w.options()
	o.Prefix = "squatted/"
	s := w.opened(t, o, nil)
	if _, err := s.bucket.Create(t.Context(), archive.Object{Name: archive.SchemaName(schema)}, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	_, err = s.Append(t.Context(), &sinks.Batch{Chain: &chain, Changes: changes[:1]}, sinks.End{})
	wantStop(t, err, "schemas/")
}

// growing is a Bucket whose listings miss a segment each, as beside a writer that goes on.
type growing struct {
	archive.Bucket
	hidden []string
	lists  int
}

func (g *growing) List(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	hide := g.hidden[min(g.lists, len(g.hidden)-1)]
	g.lists++
	return func(yield func(archive.Object, error) bool) {
		for o, err := range g.Bucket.List(ctx, prefix) {
			if (err != nil || o.Name != hide) && !yield(o, err) {
				return
			}
		}
	}
}

func TestGap(t *testing.T) {
	w, k, chain, changes := appended(t)
	for range 5 {
		end, err := k.step(chain, cut(changes, k.end.Through, 5), k.end, nil)
		if err != nil {
			t.Fatal(err)
		}
		k.end = end
	}
	_, segments := readChain(t, w.clean, chain)
	name := func(i int) string { return segments[i].Name }
	for _, test := range []struct {
		what   string
		hidden []string
		ok     bool
	}{
		{"it moves and goes", []string{name(1), name(2), ""}, true},
		{"it stays", []string{name(1)}, false},
		{"the beginning is missing", []string{name(0)}, false},
	} {
		s := w.opened(t, w.options(), nil)
		s.bucket = &growing{Bucket: s.bucket, hidden: test.hidden}
		end, err := s.End(t.Context(), chain)
		if test.ok {
			if err != nil || end.Through != k.end.Through || len(end.Segments) != len(segments) {
				t.Errorf("%s: %d segments, %v", test.what, len(end.Segments), err)
			}
			continue
		}
		wantStop(t, err, "segments are missing")
	}
	s := w.opened(t, w.options(), nil)
	s.bucket = &growing{Bucket: s.bucket, hidden: []string{name(0), name(1), name(2), name(3), name(4)}}
	if _, err := s.End(t.Context(), chain); err == nil || sinks.IsStop(err) {
		t.Errorf("a chain that grows all the time: %v", err)
	}
}

// TestSameBytes is I9: the same changes cut the same way make the same objects, whatever the clock says and whoever writes.
func TestSameBytes(t *testing.T) {
	var runs [2]map[string][]byte
	for i := range runs {
		w := newWorld(t, "")
		chain, changes := chainChanges(9, 90)
		k := &worker{faults: &faults{}}
		k.sink = w.opened(t, w.options(), k.faults)
		for k.end.Through != changes[len(changes)-1].Position {
			end, err := k.step(chain, cut(changes, k.end.Through, 11), k.end, nil)
			if err != nil {
				t.Fatal(err)
			}
			k.end = end
		}
		var l ledger
		l.look(t, w)
		runs[i] = l.data
	}
	if len(runs[0]) < 10 || len(runs[0]) != len(runs[1]) {
		t.Errorf("%d and %d objects", len(runs[0]), len(runs[1]))
	}
	for name, data := range runs[0] {
		if !bytes.Equal(data, runs[1][name]) {
			t.Errorf("object %s differs from run to run", name)
		}
	}
	chain, changes := chainChanges(9, 30)
	now, nowData := encoded(t, chain, sinks.End{}, changes[:3])
	synctest.Test(t, func(t *testing.T) { // the clock stands in the year 2000
		then, thenData := encoded(t, chain, sinks.End{}, changes[:3])
		if then.Name != now.Name || !bytes.Equal(thenData, nowData) {
			t.Error("a segment depends on the time of day")
		}
	})
}
