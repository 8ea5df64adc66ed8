package main

import (
	"context"
	"errors"
	"os"
	"sync"

	"github.com/spanledger/spanledger/change/plainjson"
	"github.com/spanledger/spanledger/sinks"
)

// jsonLines is what configuration and `dev --sink` call "jsonlines".
var jsonLines = sinks.Type{
	Name: "jsonlines", Summary: "Appends each change as a line of JSON to a file.",
	Options: []sinks.Option{{Name: "file", Doc: "The file; it is made if it is missing, its directory is not."}},
	New: func(_ string, decode func(any) error) (sinks.Sink, error) {
		s := new(sink)
		if err := decode(s); err != nil || s.File == "" {
			return nil, errors.Join(err, errors.New("option file: name the file to append to"))
		}
		return s, nil
	},
}

type sink struct {
	File string `json:"file"`
	mu   sync.Mutex
	f    *os.File
	buf  []byte
}

// One lane and no delay: whatever has gathered while the last batch was written is the next one.
func (s *sink) Spec() sinks.Spec {
	return sinks.Spec{LaneBy: sinks.LaneByKey, Lanes: 1, MaxChanges: 1000, MaxBytes: 1 << 20}
}

func (s *sink) Open(context.Context) (err error) {
	s.f, err = os.OpenFile(s.File, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	return err
}

func (s *sink) Write(ctx context.Context, batch *sinks.Batch) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf = append(s.buf[:0], '\n') // whatever a failed try left ends here; the engine sends its batch again
	for i := range batch.Changes {
		if s.buf, err = plainjson.Append(s.buf, &batch.Changes[i]); err != nil {
			return sinks.Stop(err)
		}
		s.buf = append(s.buf, '\n')
	}
	_, err = s.f.Write(s.buf)
	return errors.Join(ctx.Err(), err, s.f.Sync()) // nil says: durable, all of it
}

func (s *sink) Close(context.Context) error { return s.f.Close() } // nil after a failed Open, which is harmless
