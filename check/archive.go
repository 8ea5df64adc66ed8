package check

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spanledger/spanledger/change"
)

// Archive holds the archive in the objects against the truth: its manifest, the names, digests, headers and schemas of its
// segments, their order and links, and that each change is there exactly once, unaltered, in the chain of its partition. The
// error is about the reading only; what is wrong with the archive is in the Sink.
func Archive(ctx context.Context, t *Truth, objects Objects) (*Sink, error) {
	a := archiveCheck{tally: newTally(t, true), objects: objects, schemas: map[string]bool{}}
	var segments []Object
	manifest := false
	for o, err := range objects.List(ctx) {
		if err != nil {
			return nil, fmt.Errorf("check: list the archive: %w", err)
		}
		folder, _, inFolder := strings.Cut(o.Name, "/")
		switch {
		case o.Name == "archive.json":
			manifest = true
			err = a.manifest(ctx, o)
		case folder == "schemas" && inFolder:
			err = a.schema(ctx, o)
		case folder == "segments" && inFolder:
			segments = append(segments, o)
		case (folder == "ddl" || folder == "seals") && inFolder:
		default:
			a.sink.fault(o.Name, "an archive has no such object")
		}
		if err != nil {
			return nil, err
		}
	}
	if !manifest {
		a.sink.fault("archive.json", "the archive has no manifest")
	}
	slices.SortFunc(segments, func(x, y Object) int { return cmp.Compare(x.Name, y.Name) })
	for _, o := range segments {
		if err := a.segment(ctx, o); err != nil {
			return nil, err
		}
	}
	a.links()
	return a.finish(), nil
}

// archiveCheck is the state of one Archive.
type archiveCheck struct {
	*tally
	objects    Objects
	containers containers
	// schemas are the names of the stored schemas whose content is right.
	schemas  map[string]bool
	segments []segment
}

// segment is what one object says of itself.
type segment struct {
	name                   string
	pipeline, token, table string
	incarnation            int64
	first, last            change.Position
	previousLast           change.Position
	previous, sha256       string
}

func (a *archiveCheck) read(ctx context.Context, name string) ([]byte, error) {
	data, err := a.objects.Read(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("check: read %s of the archive: %w", name, err)
	}
	return data, nil
}

func (a *archiveCheck) manifest(ctx context.Context, o Object) error {
	data, err := a.read(ctx, o.Name)
	if err != nil {
		return err
	}
	var m struct {
		Format   int    `json:"format"`
		Database string `json:"database"`
		Stream   string `json:"stream"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		a.sink.fault(o.Name, "it is not a manifest: %v", err)
		return nil
	}
	if m.Format != 1 {
		a.sink.fault(o.Name, "its format version is %d, want 1", m.Format)
	}
	if m.Database != a.truth.Database || m.Stream != a.truth.Stream {
		a.sink.fault(o.Name, "it is the archive of stream %s of %s, not of stream %s of %s", m.Stream, m.Database, a.truth.Stream, a.truth.Database)
	}
	return nil
}

func (a *archiveCheck) schema(ctx context.Context, o Object) error {
	data, err := a.read(ctx, o.Name)
	if err != nil {
		return err
	}
	f, err := fingerprint(data)
	if err != nil {
		a.sink.fault(o.Name, "%v", err)
		return nil
	}
	c, err := readColumns(data)
	if err != nil {
		a.sink.fault(o.Name, "%v", err)
		return nil
	}
	if want := schemaName(c.table, f); want != o.Name {
		a.sink.fault(o.Name, "its content is that of %s", want)
		return nil
	}
	a.schemas[o.Name] = true
	return nil
}

func schemaName(table, fingerprint string) string {
	return "schemas/" + tablePath(table) + "/" + fingerprint + ".avsc"
}

func tablePath(table string) string {
	p := url.PathEscape(table)
	if strings.Trim(p, ".") == "" {
		return strings.ReplaceAll(p, ".", "%2E")
	}
	return p
}

const metaPrefix = "spanledger-"

// segment checks one object by itself and counts its changes.
func (a *archiveCheck) segment(ctx context.Context, o Object) error {
	data, err := a.read(ctx, o.Name)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	digest := hex.EncodeToString(sum[:])
	if o.Metadata != nil {
		if said := o.Metadata[metaPrefix+"sha256"]; said != digest {
			a.sink.fault(o.Name, "its metadata say its SHA-256 is %q: it is %s", said, digest)
		}
	}
	c, err := a.containers.read(data)
	if err != nil {
		a.sink.fault(o.Name, "%v", err)
	}
	if c == nil {
		return nil
	}
	for _, k := range []string{"format", "pipeline", "incarnation", "token", "table", "first", "last", "count", "fingerprint", "previous-last", "previous-sha256"} {
		if h := c.metadata[metaPrefix+k]; o.Metadata != nil && o.Metadata[metaPrefix+k] != h {
			a.sink.fault(o.Name, "its metadata say %s is %q, its header %q", k, short(o.Metadata[metaPrefix+k]), short(h))
		}
	}
	s, err := readHeader(o.Name, c)
	if err != nil {
		a.sink.fault(o.Name, "%v", err)
	}
	s.sha256 = digest
	if name := schemaName(s.table, c.fingerprint); !a.schemas[name] {
		a.sink.fault(o.Name, "its schema is not stored as %s", name)
	}
	a.segments = append(a.segments, s)
	a.records(&s, c)
	return nil
}

// records holds the changes of a segment against the segment and the truth.
func (a *archiveCheck) records(s *segment, c *container) {
	last := change.Position{}
	for n, m := range c.contents {
		d := m.delivery(a.truth, s.name)
		i, _ := a.count(d)
		switch {
		case n == 0 && m.position != s.first:
			a.sink.fault(s.name, "its header says it begins at %s, it begins at %s", s.first, m.position)
		case n == len(c.contents)-1 && m.position != s.last:
			a.sink.fault(s.name, "its header says it ends at %s, it ends at %s", s.last, m.position)
		}
		if n > 0 && !m.position.After(last) {
			a.sink.note(Example{Kind: OrderViolation, ID: m.position.String(), Object: s.name, Table: m.table, Key: d.Key, Detail: "it follows " + last.String()})
		}
		if m.table != s.table {
			a.sink.fault(s.name, "it is of table %s and holds a change of %s", s.table, short(m.table))
		}
		if i >= 0 && a.truth.Changes[i].Partition != s.token {
			a.sink.fault(s.name, "it is of partition %s and holds the change %s of partition %s", short(s.token), m.position, short(a.truth.Changes[i].Partition))
		}
		last = m.position
	}
}

// readHeader reads what a segment says of itself and holds it against its name and number of records. With an error comes
// as much as could be read.
func readHeader(name string, c *container) (segment, error) {
	get := func(k string) string { return c.metadata[metaPrefix+k] }
	s := segment{name: name, pipeline: get("pipeline"), token: get("token"), table: get("table"), previous: get("previous-sha256")}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	var err error
	if get("format") != "1" {
		bad("its format version is %q, want 1", get("format"))
	}
	if s.incarnation, err = strconv.ParseInt(get("incarnation"), 10, 64); err != nil {
		bad("its incarnation: %w", err)
	}
	if s.first, err = change.ParsePosition(get("first")); err != nil {
		bad("its first position: %w", err)
	}
	if s.last, err = change.ParsePosition(get("last")); err != nil {
		bad("its last position: %w", err)
	}
	if s.previous != "" {
		if s.previousLast, err = change.ParsePosition(get("previous-last")); err != nil {
			bad("its previous segment's last position: %w", err)
		}
	} else if get("previous-last") != "" {
		bad("it names the last position of a previous segment without its digest")
	}
	if n, err := strconv.Atoi(get("count")); err != nil || n != len(c.contents) || n == 0 {
		bad("its header counts %s changes, it holds %d", short(get("count")), len(c.contents))
	}
	if get("fingerprint") != c.fingerprint {
		bad("its header names the schema %s, its schema is %s", short(get("fingerprint")), c.fingerprint)
	}
	if c.table != s.table {
		bad("its header says table %s, its schema is of table %s", short(s.table), short(c.table))
	}
	if s.last.Commit.Time().Format(hourPath) != s.first.Commit.Time().Format(hourPath) {
		bad("it leaves an hour: it reaches from %s to %s", s.first.Commit, s.last.Commit)
	}
	if want := s.path(); want != name {
		bad("by its header its name is %s", want)
	}
	return s, errors.Join(errs...)
}

const hourPath = "date=2006-01-02/hour=15"

// longestPlace is the length at which the place in a name is cut short by a digest.
const longestPlace = 180

// path is the name a segment must have.
func (s *segment) path() string {
	place := s.first.String()
	if len(place) > longestPlace {
		sum := sha256.Sum256([]byte(place))
		place = place[:longestPlace-33] + "-" + hex.EncodeToString(sum[:16])
	}
	return "segments/" + tablePath(s.table) + "/" + s.first.Commit.Time().Format(hourPath) + "/" + place + "-" + s.chain() + ".avro"
}

// chain is the short digest of the segment's chain.
func (s *segment) chain() string {
	var b bytes.Buffer
	for _, part := range []string{s.pipeline, s.token, s.table} {
		_ = binary.Write(&b, binary.BigEndian, uint64(len(part))) // a bytes.Buffer takes all
		b.WriteString(part)
	}
	_ = binary.Write(&b, binary.BigEndian, s.incarnation)
	sum := sha256.Sum256(b.Bytes())
	return hex.EncodeToString(sum[:8])
}

// links checks that the segments of each chain follow one another without gap or overlap (I7).
func (a *archiveCheck) links() {
	slices.SortStableFunc(a.segments, func(x, y segment) int {
		return cmp.Or(cmp.Compare(x.pipeline, y.pipeline), cmp.Compare(x.incarnation, y.incarnation), cmp.Compare(x.table, y.table),
			cmp.Compare(x.token, y.token), x.first.Compare(y.first))
	})
	for i := range a.segments {
		s, previous := &a.segments[i], segment{}
		if i > 0 {
			if p := &a.segments[i-1]; p.pipeline == s.pipeline && p.incarnation == s.incarnation && p.table == s.table && p.token == s.token {
				previous = *p
			}
		}
		switch {
		case previous.name != "" && !s.first.After(previous.last):
			a.sink.fault(s.name, "it begins at %s and overlaps %s, which ends at %s", s.first, previous.name, previous.last)
		case s.previous != previous.sha256 || s.previousLast != previous.last:
			a.sink.fault(s.name, "it follows a segment with the digest %q that ends at %s; the one before it in its chain is %q with %q and %s",
				s.previous, s.previousLast, previous.name, previous.sha256, previous.last)
		}
	}
}
