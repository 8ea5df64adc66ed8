package store

import (
	"slices"
	"time"

	"google.golang.org/grpc/codes"
)

// A transaction with the right of way reads as if under locks. Each of its reads is noted before it is made, and then made
// in the newest state; from then on commits that would write there wait, until the transaction ends. So what it has read
// still stands whenever it reads on or commits, and no change of a row aborts it.
//
// Commits wait for older transactions only, so no two wait for each other; a younger one with the right of way loses it to
// an older one's commit, and then is as optimistic as any. No wait is longer than RightOfWay: whoever has waited that long
// ends the right he waited for.

// claim is a transaction's right of way.
type claim struct {
	until time.Time
	ended chan struct{} // closed when the transaction ends or has lost the right
}

// renew gives t the right of way at its first read and, while it has it, moves its snapshot up to the newest state. The
// caller holds mu and t.mu.
func (db *Database) renew(t *Txn) {
	if t.claim == nil {
		t.claim = &claim{until: db.Now().Add(t.opts.RightOfWay), ended: make(chan struct{})}
		db.first = append(db.first, t)
	}
	if !slices.Contains(db.first, t) {
		return
	}
	st := db.current.Load()
	switch {
	case t.base == nil:
		t.pin()
	case t.base.schema != st.schema: // it cannot commit any more
		db.endClaim(t)
	case t.base.st != st:
		t.base = &Snapshot{db: db, st: st, ts: st.ts, schema: st.schema}
	}
}

// giveWay ends t's right of way. The caller holds t.mu.
func (db *Database) giveWay(t *Txn) {
	if t.claim == nil {
		return
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	db.endClaim(t)
}

// endClaim ends t's right of way, if it has it. The caller holds mu.
func (db *Database) endClaim(t *Txn) {
	if i := slices.Index(db.first, t); i >= 0 {
		db.first = slices.Delete(slices.Clone(db.first), i, i+1)
		close(t.claim.ended)
	}
}

// letPass waits until a transaction's right of way has ended, and ends it itself when its time is over. The caller holds
// mu, which is free meanwhile.
func (db *Database) letPass(first *Txn, cancel <-chan struct{}) error {
	c := first.claim
	// A clock that has jumped back makes nobody wait longer.
	wait := min(c.until.Sub(db.Now()), first.opts.RightOfWay)
	db.mu.Unlock()
	defer db.mu.Lock()
	fired, stop := db.opts.Clock.NewTimer(wait)
	defer stop()
	select {
	case <-c.ended:
	case <-fired:
		db.mu.Lock()
		db.endClaim(first)
		db.mu.Unlock()
	case <-cancel:
		return Errorf(codes.Canceled, "the commit was cancelled while it waited for an older transaction that has read what it writes")
	}
	return nil
}

// breakClaims notes who has the right of way and has read what is about to be written.
func (w *writer) breakClaims(id int64, k Key) {
	for _, t := range w.claims {
		if t.reads.has(id, k) && !slices.Contains(w.broken, t) {
			w.broken = append(w.broken, t)
		}
	}
}

// inTheWay returns whom the commit of t must let pass: nil if all that it would break the right of are younger.
func (w *writer) inTheWay(t *Txn) *Txn {
	// Having read nothing yet, it has lost nothing either.
	has := t.opts.RightOfWay > 0 && (t.claim == nil || slices.Contains(w.claims, t))
	for _, other := range w.broken {
		if !has || other.opts.Age < t.opts.Age {
			return other
		}
	}
	return nil
}
