package sinktest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/memsink"
	"github.com/spanledger/spanledger/sinks/sinktest"
)

// brokenEnv makes TestBroken run the suite on broken sinks, in a process of its own, where it is to fail.
const brokenEnv = "SINKTEST_BROKEN"

// writer is a Writer with one method replaced.
type writer struct {
	*memsink.Writer
	write func(ctx context.Context, w *memsink.Writer, b *sinks.Batch) error
}

func (w *writer) Write(ctx context.Context, b *sinks.Batch) error { return w.write(ctx, w.Writer, b) }

// appender is an Appender with methods replaced; nil leaves one as it is.
type appender struct {
	*memsink.Appender
	append func(ctx context.Context, a *memsink.Appender, b *sinks.Batch, end sinks.End) (sinks.End, error)
	end    func(ctx context.Context, a *memsink.Appender, chain change.Chain) (sinks.End, error)
}

func (a *appender) Append(ctx context.Context, b *sinks.Batch, end sinks.End) (sinks.End, error) {
	if a.append == nil {
		return a.Appender.Append(ctx, b, end)
	}
	return a.append(ctx, a.Appender, b, end)
}

func (a *appender) End(ctx context.Context, chain change.Chain) (sinks.End, error) {
	if a.end == nil {
		return a.Appender.End(ctx, chain)
	}
	return a.end(ctx, a.Appender, chain)
}

// keeper keeps a batch's memory instead of a copy.
type keeper struct {
	mu   sync.Mutex
	kept []change.Change
}

func (k *keeper) write(_ context.Context, _ *memsink.Writer, b *sinks.Batch) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept = append(k.kept, b.Changes...)
	return nil
}

// faults are sinks that break the contract in one way each, and the subtest that must notice.
var faults = []struct {
	name, notices string
	make          func(d *memsink.Destination) sinks.Sink
	keeper        *keeper
}{
	{name: "keeps memory", notices: "Values", keeper: new(keeper)},
	{name: "loses", notices: "Order", make: func(d *memsink.Destination) sinks.Sink {
		return breakWrite(d, func(ctx context.Context, w *memsink.Writer, b *sinks.Batch) error {
			return w.Write(ctx, &sinks.Batch{Changes: b.Changes[:(len(b.Changes)+1)/2]})
		})
	}},
	{name: "reorders", notices: "Order", make: func(d *memsink.Destination) sinks.Sink {
		return breakWrite(d, func(ctx context.Context, w *memsink.Writer, b *sinks.Batch) error {
			reversed := slices.Clone(b.Changes)
			slices.Reverse(reversed)
			return w.Write(ctx, &sinks.Batch{Changes: reversed})
		})
	}},
	{name: "NULL for not captured", notices: "Values", make: func(d *memsink.Destination) sinks.Sink {
		return breakWrite(d, func(ctx context.Context, w *memsink.Writer, b *sinks.Batch) error {
			for i, c := range b.Changes {
				row := make(change.Row, len(c.Table.Columns))
				for n := range row {
					if row[n] = c.Before.At(n); row[n] == nil {
						row[n] = change.Value("null")
					}
				}
				b.Changes[i].Before = row
			}
			return w.Write(ctx, b)
		})
	}},
	{name: "wrong index", notices: "Reject", make: func(d *memsink.Destination) sinks.Sink {
		return breakWrite(d, func(ctx context.Context, w *memsink.Writer, b *sinks.Batch) error {
			err := w.Write(ctx, b)
			if r, ok := errors.AsType[*sinks.RejectError](err); ok {
				r.Rejected[0].Index++
			}
			return err
		})
	}},
	{name: "stops when cancelled", notices: "Cancel", make: func(d *memsink.Destination) sinks.Sink {
		return breakWrite(d, func(ctx context.Context, w *memsink.Writer, b *sinks.Batch) error {
			if err := w.Write(ctx, b); err != nil {
				return sinks.Stop(err)
			}
			return nil
		})
	}},
	{name: "no lanes", notices: "Spec", make: func(d *memsink.Destination) sinks.Sink {
		return memsink.NewWriter(memsink.Options{Destination: d, Spec: sinks.Spec{LaneBy: sinks.LaneByKey, Lanes: -1}})
	}},
	{name: "opens what is missing", notices: "Open", make: func(d *memsink.Destination) sinks.Sink {
		return memsink.NewWriter(memsink.Options{Destination: d})
	}},
	{name: "writes a place twice", notices: "Places", make: func(d *memsink.Destination) sinks.Sink {
		return &appender{Appender: memsink.NewAppender(memsink.Options{Destination: d}),
			append: func(ctx context.Context, a *memsink.Appender, b *sinks.Batch, end sinks.End) (sinks.End, error) {
				there, err := a.End(ctx, *b.Chain) // behind whatever is there
				if err != nil {
					return there, err
				}
				return a.Append(ctx, b, there)
			}}
	}},
	{name: "believes its own batch", notices: "Places", make: func(d *memsink.Destination) sinks.Sink {
		return &appender{Appender: memsink.NewAppender(memsink.Options{Destination: d}),
			append: func(ctx context.Context, a *memsink.Appender, b *sinks.Batch, end sinks.End) (sinks.End, error) {
				got, err := a.Append(ctx, b, end)
				got.Through = b.Changes[len(b.Changes)-1].Position
				return got, err
			}}
	}},
	{name: "forgets its end", notices: "End", make: func(d *memsink.Destination) sinks.Sink {
		return &appender{Appender: memsink.NewAppender(memsink.Options{Destination: d}),
			end: func(context.Context, *memsink.Appender, change.Chain) (sinks.End, error) { return sinks.End{}, nil }}
	}},
	{name: "keeps its end to itself", notices: "Once", make: func(d *memsink.Destination) sinks.Sink {
		ends := map[change.Chain]sinks.End{} // of this worker, in place of the end it is given
		return &appender{Appender: memsink.NewAppender(memsink.Options{Destination: d}),
			append: func(ctx context.Context, a *memsink.Appender, b *sinks.Batch, end sinks.End) (sinks.End, error) {
				got, err := a.Append(ctx, b, ends[*b.Chain])
				if err == nil {
					ends[*b.Chain] = got
				}
				return got, err
			}}
	}},
	{name: "large state", notices: "Places", make: func(d *memsink.Destination) sinks.Sink {
		return &appender{Appender: memsink.NewAppender(memsink.Options{Destination: d}),
			append: func(ctx context.Context, a *memsink.Appender, b *sinks.Batch, end sinks.End) (sinks.End, error) {
				end.State = []byte(strings.TrimLeft(string(end.State), "0"))
				got, err := a.Append(ctx, b, end)
				got.State = append([]byte(strings.Repeat("0", sinks.MaxState)), got.State...)
				return got, err
			}}
	}},
}

func breakWrite(d *memsink.Destination, write func(context.Context, *memsink.Writer, *sinks.Batch) error) sinks.Sink {
	refuse := func(c *change.Change) error {
		if c.Tag == "refused" {
			return errors.New("the tag says so")
		}
		return nil
	}
	return &writer{memsink.NewWriter(memsink.Options{Destination: d, Reject: refuse}), write}
}

// TestBroken is the suite on sinks that break the contract. TestSuiteNoticesFaults runs it.
func TestBroken(t *testing.T) {
	if os.Getenv(brokenEnv) == "" {
		t.Skip("run by TestSuiteNoticesFaults")
	}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			sinktest.Run(t, sinktest.Harness{
				Make: func(t *testing.T) sinktest.Destination {
					d := memsink.NewDestination()
					if f.keeper != nil {
						f.keeper.kept = nil
						return sinktest.Destination{
							Sink: func(*testing.T) sinks.Sink { return breakWrite(d, f.keeper.write) },
							ReadBack: func(*testing.T) (all []sinktest.Delivered) {
								for i := range f.keeper.kept {
									all = append(all, sinktest.Deliver(&f.keeper.kept[i]))
								}
								return all
							},
						}
					}
					return sinktest.Destination{Sink: func(*testing.T) sinks.Sink { return f.make(d) }, ReadBack: readBack(d)}
				},
				Missing: func(*testing.T) sinks.Sink {
					if f.notices == "Open" {
						return f.make(memsink.NewDestination())
					}
					return memsink.NewWriter(memsink.Options{OnOpen: missing})
				},
				Refuse: func(c *change.Change) { c.Tag = "refused" },
			})
		})
	}
}

// A suite that passes everything proves nothing: each fault must be noticed, by the subtest that is about it.
func TestSuiteNoticesFaults(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			run := "^TestBroken$/^" + strings.ReplaceAll(f.name, " ", "_") + "$/^" + f.notices + "$"
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run="+run)
			cmd.Env = append(os.Environ(), brokenEnv+"=1")
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "FAIL: TestBroken/"+strings.ReplaceAll(f.name, " ", "_")+"/"+f.notices) {
				t.Errorf("%s did not notice: %v\n%s", f.notices, err, out)
			}
			if strings.Contains(string(out), "panic:") {
				t.Errorf("the suite panicked:\n%s", out)
			}
		})
	}
}
