package fault

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParse(t *testing.T) {
	p, err := Parse(`
		# what a bad day looks like
		seed=7; abort p=0.25 for=10ms
		lost nth=3 method=Commit   # the third
		cut after=5-20 every=2 stream=orders
		jump by=-90s times=1
		alter after=1 ddl="ALTER TABLE t ADD COLUMN c STRING(MAX); -- \"not\" a comment # nor this"
	`)
	want := Plan{Seed: 7, Rules: []Rule{
		{Kind: Abort, P: 0.25, For: 10 * time.Millisecond},
		{Kind: Lost, Nth: 3, Method: "Commit"},
		{Kind: Cut, After: 5, AfterMax: 20, Every: 2, Stream: "orders"},
		{Kind: Jump, By: -90 * time.Second, Times: 1},
		{Kind: Alter, After: 1, DDL: `ALTER TABLE t ADD COLUMN c STRING(MAX); -- "not" a comment # nor this`},
	}}
	if err != nil || p.Seed != want.Seed || !slices.Equal(p.Rules, want.Rules) {
		t.Errorf("got %+v, %v\nwant %+v", p, err, want)
	}
	if p, err := Parse(" ;; # nothing\n"); err != nil || len(p.Rules) != 0 {
		t.Errorf("an empty plan: %+v, %v", p, err)
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"explode":                       `rule 1, "explode": unknown fault "explode": want one of abort, `,
		"abort; abort p=2":              `rule 2, "abort p=2": p=2: want a chance above 0 and up to 1`,
		"abort p=NaN":                   "want a chance",
		"abort p":                       "want NAME=VALUE",
		"abort p=0.1 p=0.2":             "field p is given twice",
		"abort after=3":                 `fault abort has no field "after"`,
		"cut after=5-3":                 "want a whole number from 5",
		"cut after=-1":                  "want a whole number from 0",
		"cut nth=0":                     "want a whole number from 1",
		"stall for=soon":                "want a duration",
		"stall for=-1s":                 "for must be from 0",
		"stall for=100h":                "for must be from 0",
		"jump":                          "needs the field by",
		"jump by=0s":                    "want a duration such as",
		"alter":                         "needs the field ddl",
		`alter ddl=""`:                  "want a schema statement",
		`alter ddl="DROP`:               "quotes are not closed",
		`alter ddl="x"y`:                "want a space",
		"lost method=Comit":             `there is no method "Comit"`,
		"lost method=StreamingRead":     "use cut",
		"end method=StreamingRead":      "change-stream queries only",
		"cut method=Commit":             "has one answer",
		"stall after=3 method=Commit":   "has one answer",
		"abort method=ChangeStream":     "strikes whole calls",
		"cut method=* stream=x":         "goes with method=ChangeStream",
		"seed=-1":                       "want seed=N",
		"seed=99999999999999999999 cut": "want seed=N",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
	if err := (&Injector{}).Add(Rule{Kind: "x"}); err == nil {
		t.Error("an injector took an unknown fault")
	}
}

// genRule makes any rule that Check passes.
func genRule(t *rapid.T) Rule {
	text := rapid.SampledFrom([]string{"", "Commit", "*", ChangeStream, "ExecuteStreamingSql", "StreamingRead", "CreateSession"})
	r := rapid.Custom(func(t *rapid.T) Rule {
		k := rapid.SampledFrom(Kinds()).Draw(t, "kind")
		r := Rule{
			Kind: k, P: rapid.SampledFrom([]float64{0, 1, 0.5, 1e-9}).Draw(t, "p"),
			Nth: rapid.IntRange(0, 3).Draw(t, "nth"), Every: rapid.IntRange(0, 3).Draw(t, "every"), Times: rapid.IntRange(0, 2).Draw(t, "times"),
			Method: text.Draw(t, "method"),
		}
		if rapid.Bool().Draw(t, "stream") {
			r.Stream = rapid.StringMatching(`[a-z]{1,3}`).Draw(t, "name")
		}
		for _, f := range specs[k].fields {
			switch f {
			case "after":
				r.After = rapid.IntRange(0, 9).Draw(t, "after")
				if rapid.Bool().Draw(t, "range") {
					r.AfterMax = r.After + rapid.IntRange(1, 9).Draw(t, "more")
				}
			case "for":
				r.For = time.Duration(rapid.Int64Range(0, int64(maxFor)).Draw(t, "for"))
			case "by":
				r.By = time.Duration(rapid.Int64Range(1, int64(maxBy)).Draw(t, "by"))
			case "ddl":
				r.DDL = rapid.StringN(1, 20, -1).Draw(t, "ddl")
			}
		}
		return r
	}).Filter(func(r Rule) bool { return r.Check() == nil })
	return r.Draw(t, "rule")
}

func TestPropertyPrintedPlansParse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Plan{Seed: rapid.Uint64().Draw(t, "seed")}
		for range rapid.IntRange(0, 4).Draw(t, "rules") {
			p.Rules = append(p.Rules, genRule(t))
		}
		again, err := Parse(p.String())
		if err != nil || again.Seed != p.Seed || !slices.Equal(again.Rules, p.Rules) {
			t.Fatalf("%s\nparsed as %+v, %v\nwant %+v", p, again, err, p)
		}
	})
}

// The same opportunities are struck in every run, whatever other rules see in between.
func TestPropertyStrikesRepeat(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Plan{Seed: rapid.Uint64().Draw(t, "seed"), Rules: []Rule{genRule(t), genRule(t)}}
		methods := rapid.SliceOfN(rapid.SampledFrom([]string{"Commit", "ExecuteStreamingSql", ChangeStream}), 0, 60).Draw(t, "calls")
		run := func() (hits []Hit, counts []int) {
			in, err := New(p)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range methods {
				for _, at := range []Point{Before, After, Rows} {
					hits = append(hits, in.Strike(at, m, "s")...)
				}
			}
			for _, k := range Kinds() {
				counts = append(counts, in.Count(k))
			}
			return hits, counts
		}
		a, counts := run()
		b, again := run()
		if !slices.Equal(a, b) || !slices.Equal(counts, again) {
			t.Fatalf("%v, then %v", a, b)
		}
		times := map[Rule]int{}
		for _, h := range a {
			times[h.Rule]++
			if h.Rows < h.After || h.Rows > max(h.After, h.AfterMax) {
				t.Fatalf("%v after %d rows", h.Rule, h.Rows)
			}
		}
		for r, n := range times {
			if p.Rules[0] != p.Rules[1] && (r.Times > 0 && n > r.Times || r.Nth > 0 && n > 1) {
				t.Fatalf("%v struck %d times", r, n)
			}
		}
	})
}

func TestChanceIsAbout(t *testing.T) {
	in, err := New(Plan{Seed: 3, Rules: []Rule{{Kind: Abort, P: 0.2}}})
	if err != nil {
		t.Fatal(err)
	}
	for range 10_000 {
		in.Strike(Before, "Commit", "")
	}
	if n := in.Count(Abort); n < 1800 || n > 2200 {
		t.Errorf("a chance of 0.2 struck %d of 10000", n)
	}
	in.Clear()
	if hits := in.Strike(Before, "Commit", ""); len(hits) > 0 {
		t.Errorf("cleared, and struck %v", hits)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`seed=7; abort p=0.2; cut after=5-20 stream=s # x`)
	f.Add(`alter after=1 ddl="a; \" b"` + "\njump by=-1h")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(p.String())
		if err != nil || again.Seed != p.Seed || !slices.Equal(again.Rules, p.Rules) {
			t.Errorf("%q\nis %s\nwhich parses as %+v, %v", text, p, again, err)
		}
		if _, err := New(p); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	})
}
