package changes

import (
	"crypto/hmac"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"math"
)

// never is the end of a partition that lives.
const never = math.MaxInt64

// partition is one token: some ranges of the key space over a span of time. Guarded by Log.mu, except the fields said to
// be fixed.
type partition struct {
	// id and token are fixed; ids rise with the creation within a stream.
	id    uint64
	token string
	// start and end are the bounds a reader sees, both allowed as start_timestamp; microseconds. start is fixed.
	start, end int64
	// first and limit bound the commits that belong here: [first, limit). With immutable ranges that is [start, end);
	// with mutable ones a commit exactly at a redraw still is the source's, so both lie one microsecond later.
	first, limit int64
	// parents and children are tokens, not pointers: a chain of generations must not keep its dead alive.
	parents  []string
	children []childRow
	// ranges are what it owns after every redraw so far, also those that are still to come; none once it ended.
	ranges []keyRange
	// live is its index in stream.live, or -1.
	live int

	// entries are its rows in the order readers get them; entry i has the absolute number base+i, which never changes once
	// the row may have been read.
	entries []entry
	base    uint64
	// sample is a ring of recently changed keys, to cut where the data are.
	sample  []place
	samples int
	// taken counts changes; counted is where churn by load left off.
	taken, counted int

	readers int
	// wake is closed, and nil again, when a row is added or the end becomes known; nil while nobody waits.
	wake chan struct{}

	// What the commit being captured has put here so far; see capture.
	open     *dataRecord
	openView *view
}

// entry is one row of a partition: a data record, or a control row of mutable key ranges.
type entry struct {
	at   int64
	data *dataRecord
	// control is set where data is nil.
	control *controlRow
}

// controlRow is a partition start, event or end.
type controlRow struct {
	kind     Kind
	at       int64
	sequence int
	token    string // the queried partition, or for a start the one that begins
	in, out  []string
}

const sampleSize = 32

func (p *partition) remember(at place) {
	if len(p.sample) < sampleSize {
		p.sample = append(p.sample, at)
	} else {
		p.sample[p.samples%sampleSize] = at
	}
	p.samples++
}

// add puts a row in its place by time. Control rows announced for a coming timestamp stay behind the data of that
// timestamp, and number on from it: no reader has seen them, since it gets them only once every commit up to that
// timestamp is known.
func (p *partition) add(e entry) {
	i := len(p.entries)
	if e.data != nil {
		for i > 0 && p.entries[i-1].control != nil && p.entries[i-1].at >= e.at {
			i--
		}
	}
	p.entries = append(p.entries, entry{})
	copy(p.entries[i+1:], p.entries[i:])
	p.entries[i] = e
	if e.data != nil {
		for k := i + 1; k < len(p.entries) && p.entries[k].at == e.at; k++ {
			p.entries[k].control.sequence = e.data.sequence + k - i
		}
	}
	p.signal()
}

func (p *partition) signal() {
	if p.wake != nil {
		close(p.wake)
		p.wake = nil
	}
}

// changed returns the channel that the next signal closes.
func (p *partition) changed() <-chan struct{} {
	if p.wake == nil {
		p.wake = make(chan struct{})
	}
	return p.wake
}

// Tokens are 128 characters like production's: a keyed hash, then which stream and which partition. The hash tells a
// token of this stream whose records are gone from one that never was.
const (
	tokenHash = sha512.Size
	tokenLen  = 96
)

func (l *Log) token(uid, id uint64) string {
	var raw [tokenLen]byte
	binary.BigEndian.PutUint64(raw[tokenHash:], uid)
	binary.BigEndian.PutUint64(raw[tokenHash+8:], id)
	mac := hmac.New(sha512.New, l.secret[:])
	mac.Write(raw[tokenHash : tokenHash+16])
	sum := mac.Sum(nil)
	copy(raw[:], sum)
	for i := range 16 { // so that tokens of one stream do not look alike, as production's do not
		raw[tokenHash+i] ^= sum[i]
	}
	copy(raw[tokenHash+16:], sum[16:32])
	return base64.URLEncoding.EncodeToString(raw[:])
}

// parseToken returns whose token it is, or false for a string this Log never gave out.
func (l *Log) parseToken(token string) (uid, id uint64, ok bool) {
	raw, err := base64.URLEncoding.DecodeString(token)
	if err != nil || len(raw) != tokenLen {
		return 0, 0, false
	}
	for i := range 16 {
		raw[tokenHash+i] ^= raw[i]
	}
	uid, id = binary.BigEndian.Uint64(raw[tokenHash:]), binary.BigEndian.Uint64(raw[tokenHash+8:])
	return uid, id, l.token(uid, id) == token
}

// childRow announces one child of a partition with immutable key ranges.
type childRow struct {
	token   string
	parents []string
}
