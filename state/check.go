package state

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/spanledger/spanledger/change"
)

const (
	// maxName bounds a pipeline's name, which is part of every key.
	maxName = 64
	// These bound, in bytes, what keys are made of.
	maxToken  = 2048
	maxTable  = 512
	maxWorker = 512
	maxSink   = 128
	// maxKey bounds a whole key, below Spanner's 8 KiB. Only a segment's, which ends in a position, can come near.
	maxKey = 8000
	// maxPosition bounds a position's text. A snapshot row's position has the row's key in it, up to three bytes for one.
	maxPosition = 32 << 10
	// maxChainState is the bound that sinks promise for a chain's state.
	maxChainState = 4096
)

// check refuses a configuration that cannot be stored.
func (c *Config) check() error {
	if err := checkPipeline(c.Pipeline); err != nil {
		return err
	}
	for _, f := range []struct{ name, value string }{
		{"database", c.Database}, {"stream", c.Stream}, {"identity", c.Identity}, {"config digest", c.Digest},
	} {
		if !utf8.ValidString(f.value) {
			return fmt.Errorf("state: pipeline %s: its %s %q is not UTF-8", c.Pipeline, f.name, f.value)
		}
	}
	if c.Database == "" || c.Stream == "" {
		return fmt.Errorf("state: pipeline %s: database %q and stream %q must both be named", c.Pipeline, c.Database, c.Stream)
	}
	if err := checkTime(c.Start); err != nil {
		return fmt.Errorf("state: pipeline %s: start: %w", c.Pipeline, err)
	}
	return nil
}

func checkPipeline(name string) error {
	ok := name != "" && len(name) <= maxName && name[0] >= 'a' && name[0] <= 'z'
	for i := 0; ok && i < len(name); i++ {
		c := name[i]
		ok = c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-'
	}
	if !ok {
		return fmt.Errorf("state: pipeline name %q: want 1 to %d of a-z, 0-9 and -, a letter first", name, maxName)
	}
	return nil
}

func checkWorker(name string) error {
	if err := checkKeyPart(name, maxWorker); err != nil {
		return fmt.Errorf("state: worker's name: %w", err)
	}
	return nil
}

// check refuses an update that cannot be stored, whatever is stored already.
func (u *Update) check(l Lease) error {
	err := u.checkFields(l)
	if err != nil {
		return fmt.Errorf("state: pipeline %s: update of partition %q: %w", l.Pipeline, u.Token, err)
	}
	return nil
}

func (u *Update) checkFields(l Lease) error {
	if u.Token == "" {
		if u.Finished || len(u.Progress) > 0 || len(u.Segments) > 0 {
			return errors.New("without a token it can only carry children and tables")
		}
	} else if err := checkKeyPart(u.Token, maxToken); err != nil {
		return fmt.Errorf("token: %w", err)
	}
	if err := checkTime(u.End); err != nil {
		return fmt.Errorf("end: %w", err)
	}
	for _, c := range u.Children {
		if err := checkKeyPart(c.Token, maxToken); err != nil {
			return fmt.Errorf("child's token: %w", err)
		}
		if err := checkTime(c.Start); err != nil {
			return fmt.Errorf("start of child %s: %w", c.Token, err)
		}
		for _, p := range c.Parents {
			if err := checkKeyPart(p, maxToken); err != nil {
				return fmt.Errorf("parent of child %s: %w", c.Token, err)
			}
		}
	}
	for i := range u.Progress {
		if err := u.Progress[i].check(u.Token); err != nil {
			return err
		}
	}
	for i := range u.Segments {
		if err := u.Segments[i].check(l, u.Token); err != nil {
			return err
		}
	}
	for i := range u.Snapshots {
		if err := u.Snapshots[i].check(); err != nil {
			return err
		}
	}
	for _, t := range u.Tables {
		if t == nil {
			return errors.New("a table is nil")
		}
		if err := checkKeyPart(t.Name, maxTable); err != nil {
			return fmt.Errorf("table's name: %w", err)
		}
		if t.Version < 1 {
			return fmt.Errorf("table %s: version %d: they count from 1", t.Name, t.Version)
		}
	}
	return nil
}

func (p *Progress) check(token string) error {
	if err := checkKeyPart(p.Sink, maxSink); err != nil {
		return fmt.Errorf("progress: sink's name: %w", err)
	}
	if p.Token != "" && p.Token != token {
		return fmt.Errorf("progress of sink %s is for partition %q", p.Sink, p.Token)
	}
	if err := checkTime(p.Through); err != nil {
		return fmt.Errorf("progress of sink %s: through: %w", p.Sink, err)
	}
	for _, c := range p.Chains {
		if err := checkKeyPart(c.Table, maxTable); err != nil {
			return fmt.Errorf("progress of sink %s: chain's table: %w", p.Sink, err)
		}
		if len(c.State) > maxChainState {
			return fmt.Errorf("progress of sink %s: state of the chain of table %s has %d bytes, more than %d: the sink breaks its contract",
				p.Sink, c.Table, len(c.State), maxChainState)
		}
		if err := checkPosition(c.Through); err != nil {
			return fmt.Errorf("progress of sink %s: end of the chain of table %s: %w", p.Sink, c.Table, err)
		}
	}
	return nil
}

func (s *SinkSegment) check(l Lease, token string) error {
	if err := checkKeyPart(s.Sink, maxSink); err != nil {
		return fmt.Errorf("segment %s: sink's name: %w", s.Name, err)
	}
	if s.Chain.Pipeline != l.Pipeline || s.Chain.Incarnation != l.Incarnation || s.Chain.Token != token {
		return fmt.Errorf("segment %s of sink %s belongs to pipeline %q incarnation %d partition %q",
			s.Name, s.Sink, s.Chain.Pipeline, s.Chain.Incarnation, s.Chain.Token)
	}
	if err := checkKeyPart(s.Chain.Table, maxTable); err != nil {
		return fmt.Errorf("segment %s of sink %s: table: %w", s.Name, s.Sink, err)
	}
	for _, p := range []change.Position{s.First, s.Last} {
		if err := checkPosition(p); err != nil {
			return fmt.Errorf("segment %s of sink %s: %w", s.Name, s.Sink, err)
		}
	}
	first, _ := s.First.MarshalText()
	if n := len(s.Chain.Pipeline) + len(s.Sink) + 8 + len(token) + len(s.Chain.Table) + len(first); n > maxKey {
		return fmt.Errorf("segment %s of sink %s: its key would have %d bytes, more than %d: its first position's text has %d",
			s.Name, s.Sink, n, maxKey, len(first))
	}
	if s.First.After(s.Last) {
		return fmt.Errorf("segment %s of sink %s: its first position %s is after its last %s", s.Name, s.Sink, s.First, s.Last)
	}
	for _, f := range []string{s.Name, s.SHA256, s.Fingerprint, s.Previous} {
		if !utf8.ValidString(f) {
			return fmt.Errorf("segment %q of sink %s: %q is not UTF-8", s.Name, s.Sink, f)
		}
	}
	return nil
}

// checkKeyPart refuses what cannot be part of a key. Every name is, so none may be empty.
func checkKeyPart(s string, limit int) error {
	switch {
	case s == "":
		return errors.New("it is empty")
	case len(s) > limit:
		return fmt.Errorf("%q... has %d bytes, more than the %d a key leaves for it", s[:32], len(s), limit)
	case !utf8.ValidString(s):
		return fmt.Errorf("%q is not UTF-8", s)
	}
	return nil
}

// checkPosition refuses a position whose text form does not exist or is too long.
func checkPosition(p change.Position) error {
	text, err := p.MarshalText()
	if err != nil {
		return err
	}
	if len(text) > maxPosition {
		return fmt.Errorf("position %s... has %d bytes of text, more than %d", text[:64], len(text), maxPosition)
	}
	return nil
}

func checkTime(t change.Timestamp) error {
	if t < 0 || t > change.MaxTimestamp {
		return fmt.Errorf("%d µs is outside 1970..9999", int64(t))
	}
	return nil
}
