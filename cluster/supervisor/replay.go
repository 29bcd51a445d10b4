package supervisor

import (
	"fmt"
	"io"
	"time"

	"godwit/cluster/wire"
	"godwit/event"
)

// Replay feeds a recording (Config.Record) into a state machine of its own, with
// the same timing, and tells each new state of a module. It starts nothing. done
// says that the recorded supervisor had come to its end.
func Replay(recording io.Reader, tell func(wire.ModuleStatus)) (done bool, err error) {
	l := event.New("replay", event.WithVirtualClock(time.Unix(0, 0)))
	defer l.Stop()
	core := newCore()
	newInputs(l.Handler("modules", event.Critical), func(ev any) {
		for _, fx := range core.step(l.Now(), ev) {
			switch fx := fx.(type) {
			case fxStatus:
				tell(fx.status)
			case fxDone:
				done = true
			}
		}
	})
	if err := l.Replay(recording); err != nil {
		return done, fmt.Errorf("replay modules: %w", err)
	}
	return done, nil
}
