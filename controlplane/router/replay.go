package router

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"time"

	"godwit/cluster/fibsync"
	"godwit/event"
	"godwit/fib"
	"godwit/rib"
)

// updates are what the RIB takes in at once. They have a form in JSON, so that
// they can be recorded and replayed.
type updates []rib.Update

// updateTypes are all kinds of updates, by name.
var updateTypes = typesByName(
	rib.AddVRF{}, rib.RemoveVRF{}, rib.SetVRF{}, rib.SetInterface{}, rib.RemoveInterface{}, rib.SetStatic{}, rib.DeleteStatic{},
	rib.SetLeak{}, rib.DeleteLeak{}, rib.BGPRoutes{}, rib.MarkStale{}, rib.Sweep{},
)

func typesByName(list ...rib.Update) map[string]reflect.Type {
	m := map[string]reflect.Type{}
	for _, u := range list {
		t := reflect.TypeOf(u)
		m[t.Name()] = t
	}
	return m
}

// recorded is one update in a recording.
type recorded struct {
	Type   string          `json:"type"`
	Update json.RawMessage `json:"update"`
}

// MarshalJSON implements json.Marshaler.
func (u updates) MarshalJSON() ([]byte, error) {
	list := make([]recorded, len(u))
	for i, x := range u {
		body, err := json.Marshal(x)
		if err != nil {
			return nil, err
		}
		list[i] = recorded{reflect.TypeOf(x).Name(), body}
	}
	return json.Marshal(list)
}

// UnmarshalJSON implements json.Unmarshaler.
func (u *updates) UnmarshalJSON(data []byte) error {
	var list []recorded
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	*u = make(updates, len(list))
	for i, x := range list {
		t, ok := updateTypes[x.Type]
		if !ok {
			return fmt.Errorf("no route update is called %q", x.Type)
		}
		v := reflect.New(t)
		if err := json.Unmarshal(x.Update, v.Interface()); err != nil {
			return fmt.Errorf("route update %s: %w", x.Type, err)
		}
		(*u)[i] = v.Elem().Interface().(rib.Update)
	}
	return nil
}

// Replayed is what a replay came to.
type Replayed struct {
	Inputs, Updates int // events, and updates in them
	From, To        time.Time
	Changes         int // of forwarding tables
	Table           *rib.Table
	Events          event.Stats
}

// Replay feeds a recording of a routing engine (Options.Record) into a RIB of its
// own, in the same handlers and at the same times, as fast as it can.
func Replay(in io.Reader, log *slog.Logger) (Replayed, error) {
	l := event.New("replay", event.WithVirtualClock(time.Unix(0, 0)))
	defer l.Stop()
	r := newRoutes(l.Handler("routes", event.Normal), log)
	var out Replayed
	r.onBest, r.onRoom = func([]rib.BestChange) {}, func(fib.VRF) {}
	r.onTake = func(u updates) {
		if out.Inputs == 0 {
			out.From = l.Now()
		}
		out.To = l.Now()
		out.Inputs++
		out.Updates += len(u)
	}
	r.onChanges = func(n int) { out.Changes += n }
	err := l.Replay(in)
	out.Table, out.Events = r.table, l.Stats()
	if err != nil {
		return out, fmt.Errorf("replay routes: %w", err)
	}
	return out, nil
}

// newRoutes makes the driver of an empty RIB.
func newRoutes(h *event.Handler, log *slog.Logger) *routes {
	r := &routes{
		log: log, h: h, table: rib.New(rib.Options{History: changeLog}), pub: fibsync.NewPublisher(),
		onTake: func(updates) {}, onChanges: func(int) {},
		onBest: func([]rib.BestChange) {}, onRoom: func(fib.VRF) {}, onFIB: func([]fib.Change) {},
	}
	r.in = event.NewInput(h, "routes", r.take)
	return r
}
