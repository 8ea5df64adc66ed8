package server

import "time"

const (
	// sessionIdle is how long an ordinary session lives without a request, sessionLife how long a multiplexed one lives, as
	// in Spanner.
	sessionIdle = time.Hour
	sessionLife = 28 * 24 * time.Hour
)

// Tidy removes what the clock has made useless: idle transactions and sessions, old versions of rows, expired records of
// change streams. All of them are refused from their time on without it; Tidy gives their memory back.
func (s *Server) Tidy() {
	for _, d := range s.catalog.all() {
		d.tidy()
	}
}

func (d *Database) tidy() {
	var over []*transaction
	d.mu.Lock()
	now := d.clock.Now()
	for _, t := range d.txns {
		if d.idle(t, now) {
			d.end(t, &outcome{err: errIdle()})
			over = append(over, t)
		}
	}
	for name, ses := range d.sessions {
		if ses.expired(now) {
			delete(d.sessions, name)
		}
	}
	d.outcomes.forget(now)
	d.mu.Unlock()
	rollback(over...)
	d.store.Collect()
	d.log.Collect()
}

// expired reports whether the session's life is over. The caller holds Database.mu.
func (ses *session) expired(now time.Time) bool {
	if ses.proto.GetMultiplexed() {
		return now.Sub(ses.proto.GetCreateTime().AsTime()) > sessionLife
	}
	return ses.streams == 0 && ses.latest == nil && now.Sub(ses.used) > sessionIdle
}
