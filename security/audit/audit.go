// Package audit keeps the verdicts on modules: what was allowed or denied, why,
// and by whose signature.
//
//	loader ── Event ──▶ Ring ──▶ show security audit
//	                     └────▶ alarms: files whose last verdict is not "allowed"
//
// A Ring holds the latest events in a fixed amount of memory. All methods may
// be called from any goroutine.
package audit

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Verdict is the outcome of a check.
type Verdict string

// The verdicts.
const (
	Allowed   Verdict = "allowed"
	Denied    Verdict = "denied"
	Permitted Verdict = "permitted" // it would be denied, but the router is permissive
)

// Event is one verdict. The signature's fields are what the file says; they are
// true of the signer only if the reason is not about signature or key.
type Event struct {
	Sequence uint64    `json:"sequence"` // from 1; gaps: overwritten
	Time     time.Time `json:"time"`
	Verdict  Verdict   `json:"verdict"`
	Reason   string    `json:"reason,omitempty"` // one word: "revoked"; see module.Reason
	Detail   string    `json:"detail,omitempty"`
	File     string    `json:"file"`
	Role     string    `json:"role"`             // the slot
	Signed   string    `json:"signed,omitempty"` // the role signed
	Name     string    `json:"name,omitempty"`
	Version  string    `json:"version,omitempty"`
	BuildID  string    `json:"build_id,omitempty"`
	KeyID    string    `json:"key_id,omitempty"`
	Key      string    `json:"key,omitempty"`    // the key's label in the trust store
	Cached   bool      `json:"cached,omitempty"` // the sealed image was held: no new digest
}

// Alarm says that a file's last verdict was not "allowed".
type Alarm struct {
	File   string    `json:"file"`
	Role   string    `json:"role"`
	Since  time.Time `json:"since"` // of the first verdict in a row
	Count  uint64    `json:"count"` // verdicts in a row
	Reason string    `json:"reason"`
	Detail string    `json:"detail"`
}

// maxAlarms bounds the alarms; files come from the roles that are configured.
const maxAlarms = 256

type slot struct{ file, role string }

// Ring holds the latest events.
type Ring struct {
	mu      sync.Mutex
	events  []Event // a ring: the event of sequence n is at (n-1) % cap
	next    uint64
	denied  uint64
	alarms  map[slot]Alarm
	allowed uint64
}

// NewRing returns a ring of size events.
func NewRing(size int) *Ring {
	return &Ring{events: make([]Event, 0, max(1, size)), alarms: map[slot]Alarm{}}
}

// Add numbers the event, keeps it and returns it. raised says that it begins an
// alarm.
func (r *Ring) Add(e Event) (kept Event, raised bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	e.Sequence = r.next
	if len(r.events) < cap(r.events) {
		r.events = append(r.events, e)
	} else {
		r.events[(e.Sequence-1)%uint64(cap(r.events))] = e
	}
	k := slot{e.File, e.Role}
	if e.Verdict == Allowed {
		r.allowed++
		delete(r.alarms, k)
		return e, false
	}
	r.denied++
	a, known := r.alarms[k]
	if !known {
		if len(r.alarms) >= maxAlarms {
			return e, true
		}
		a = Alarm{File: e.File, Role: e.Role, Since: e.Time}
	}
	a.Count++
	a.Reason, a.Detail = e.Reason, e.Detail
	r.alarms[k] = a
	return e, !known
}

// Latest returns at most n events, the oldest first; n ≤ 0: all that are kept.
func (r *Ring) Latest(n int) []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := len(r.events)
	if n <= 0 || n > held {
		n = held
	}
	out := make([]Event, 0, n)
	for seq := r.next - uint64(n); seq < r.next; seq++ {
		out = append(out, r.events[seq%uint64(cap(r.events))])
	}
	return out
}

// Counts returns how many verdicts allowed and did not allow, since the start.
func (r *Ring) Counts() (allowed, denied uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.allowed, r.denied
}

// Alarms returns the alarms, by file and role.
func (r *Ring) Alarms() []Alarm {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := []Alarm{}
	for _, a := range r.alarms {
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b Alarm) int { return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Role, b.Role)) })
	return out
}
