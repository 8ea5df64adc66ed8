package sinktest_test

import (
	"context"
	"errors"
	"testing"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/sinks"
	"github.com/spanledger/spanledger/sinks/memsink"
	"github.com/spanledger/spanledger/sinks/sinktest"
)

func missing(context.Context) error { return errors.New("there is no such destination") }

func readBack(d *memsink.Destination) func(*testing.T) []sinktest.Delivered {
	return func(t *testing.T) (all []sinktest.Delivered) {
		for _, v := range d.Deliveries() {
			all = append(all, sinktest.Deliver(&v.Change))
		}
		return all
	}
}

func TestMemoryWriter(t *testing.T) {
	refuse := func(c *change.Change) error {
		if c.Tag == "refused" {
			return errors.New("the tag says so")
		}
		return nil
	}
	sinktest.Run(t, sinktest.Harness{
		Make: func(t *testing.T) sinktest.Destination {
			d := memsink.NewDestination()
			return sinktest.Destination{
				Sink: func(t *testing.T) sinks.Sink {
					w := memsink.NewWriter(memsink.Options{Destination: d, Reject: refuse})
					t.Cleanup(func() {
						for _, v := range w.Violations() {
							t.Error(v)
						}
					})
					return w
				},
				ReadBack: readBack(d),
			}
		},
		Missing: func(*testing.T) sinks.Sink { return memsink.NewWriter(memsink.Options{OnOpen: missing}) },
		Refuse:  func(c *change.Change) { c.Tag = "refused" },
	})
}

func TestMemoryAppender(t *testing.T) {
	for _, max := range []int{0, 4} {
		sinktest.Run(t, sinktest.Harness{
			Make: func(t *testing.T) sinktest.Destination {
				d := memsink.NewDestination()
				return sinktest.Destination{
					Sink: func(t *testing.T) sinks.Sink {
						a := memsink.NewAppender(memsink.Options{Destination: d, MaxPlace: max, Segments: max > 0})
						t.Cleanup(func() {
							for _, v := range a.Violations() {
								t.Error(v)
							}
							if err := d.CheckOnce(); err != nil {
								t.Error(err)
							}
						})
						return a
					},
					ReadBack: readBack(d),
				}
			},
			Missing: func(*testing.T) sinks.Sink { return memsink.NewAppender(memsink.Options{OnOpen: missing}) },
		})
	}
}
