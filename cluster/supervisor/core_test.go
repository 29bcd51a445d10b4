package supervisor

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"godwit/cluster/wire"
)

var rewrite = flag.Bool("rewrite", false, "write what the core does into testdata/*.txt")

// TestScripts runs testdata/*.txt: a line "TIME EVENT ARGS" is fed to the core,
// the indented lines below are the effects it must have. '#' begins a comment.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := play(string(want))
			if err != nil {
				t.Fatal(err)
			}
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(want) {
				t.Errorf("the core does otherwise (run with -rewrite and look at the difference):\n%s", got)
			}
		})
	}
}

func play(script string) (string, error) {
	c := newCore()
	var out strings.Builder
	sc := bufio.NewScanner(strings.NewReader(script))
	for n := 1; sc.Scan(); n++ {
		line := sc.Text()
		if strings.HasPrefix(line, "\t") {
			continue // an effect: written anew
		}
		fmt.Fprintln(&out, line)
		text, _, _ := strings.Cut(line, "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		at, err := time.ParseDuration(words[0])
		if err != nil {
			return "", fmt.Errorf("line %d: %w", n, err)
		}
		ev, err := scriptEvent(words[1:])
		if err != nil {
			return "", fmt.Errorf("line %d: %w", n, err)
		}
		for _, fx := range c.step(time.Unix(0, 0).Add(at), ev) {
			fmt.Fprintf(&out, "\t%s\n", showEffect(fx))
		}
	}
	return out.String(), nil
}

// scriptEvent reads "set linecard-1=linecard,--card,1 bgp-red=bgp@/run/netns/red" and the like.
func scriptEvent(w []string) (any, error) {
	arg := func(i int) string {
		if i < len(w) {
			return w[i]
		}
		return ""
	}
	rest := strings.Join(w[min(2, len(w)):], " ")
	switch w[0] {
	case "boot":
		return evBoot{wire.ModuleSpec{Name: RouterName, Role: RouterName}}, nil
	case "set":
		var specs []wire.ModuleSpec
		for _, word := range w[1:] {
			name, what, _ := strings.Cut(word, "=")
			parts := strings.Split(what, ",")
			role, netns, _ := strings.Cut(parts[0], "@")
			specs = append(specs, wire.ModuleSpec{Name: name, Role: role, NetNS: netns, Args: parts[1:]})
		}
		return evSet{specs}, checkSpecs(specs)
	case "started":
		pid, err := strconv.Atoi(arg(2))
		return evStarted{Name: arg(1), PID: pid, ID: identity{"1.0.0", "b1", "k1"}}, err
	case "failed":
		return evFailed{Name: arg(1), Reason: rest}, nil
	case "refused":
		return evFailed{Name: arg(1), Reason: rest, Refused: true}, nil
	case "exited":
		return evExited{arg(1), rest}, nil
	case "dead":
		return evDead{Name: arg(1), Reason: rest}, nil
	case "timer":
		return evTimer{arg(1)}, nil
	case "upgrade":
		return evUpgrade{arg(1)}, nil
	case "changed":
		return evChanged{arg(1)}, nil
	case "shutdown":
		return evShutdown{Force: arg(1) == "force"}, nil
	}
	return nil, fmt.Errorf("event %q", w[0])
}

func showEffect(fx any) string {
	switch fx := fx.(type) {
	case fxStart:
		s := "start " + fx.spec.Name + "=" + fx.spec.Role
		if fx.spec.NetNS != "" {
			s += "@" + fx.spec.NetNS
		}
		return strings.Join(append([]string{s}, fx.spec.Args...), ",")
	case fxSignal:
		if fx.kill {
			return "kill " + fx.name
		}
		if fx.dump {
			return "dump " + fx.name
		}
		if fx.upgrade {
			return "upgrade " + fx.name
		}
		return "terminate " + fx.name
	case fxTimer:
		return fmt.Sprintf("timer %s %v", fx.name, fx.d)
	case fxStatus:
		st := fx.status
		return strings.TrimSpace(fmt.Sprintf("status %s %s pid=%d restarts=%d version=%s exit=%q %s",
			st.Name, st.State, st.PID, st.Restarts, st.Version, st.LastExit, st.Reason))
	case fxDone:
		return "done"
	}
	return fmt.Sprintf("%#v", fx)
}

// TestRandom lets a world of processes and timers answer the core's effects in
// any order, with modules that come, go, crash and are refused, and checks what
// must always hold.
func TestRandom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: t, core: newCore(), now: time.Unix(0, 0), starting: map[string]bool{}, running: map[string]int{}, timers: map[string]time.Duration{}}
		w.step(evBoot{wire.ModuleSpec{Name: RouterName, Role: RouterName}})
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			w.random()
		}
		w.step(evShutdown{})
		// Everything answers, at last: a stop must come to its end.
		for range 1000 {
			if w.done {
				break
			}
			w.drain()
		}
		if !w.done || len(w.running) != 0 || len(w.starting) != 0 || len(w.timers) != 0 {
			t.Fatalf("after shutdown: done %v, running %v, starting %v, timers %v", w.done, w.running, w.starting, w.timers)
		}
	})
}

type world struct {
	t        *rapid.T
	core     *core
	now      time.Time
	starting map[string]bool
	running  map[string]int
	timers   map[string]time.Duration
	pid      int
	done     bool
}

func (w *world) step(ev any) {
	w.now = w.now.Add(time.Millisecond)
	for _, fx := range w.core.step(w.now, ev) {
		switch fx := fx.(type) {
		case fxStart:
			if w.starting[fx.spec.Name] || w.running[fx.spec.Name] != 0 {
				w.t.Fatalf("%v: second start of %s", ev, fx.spec.Name)
			}
			w.starting[fx.spec.Name] = true
		case fxSignal:
			if w.running[fx.name] == 0 {
				w.t.Fatalf("%v: signal to %s, which does not run", ev, fx.name)
			}
			dead := w.core.modules[fx.name].dead != "" // of itself, at any time
			if fx.name == RouterName && !dead && (len(w.running) > 1 || len(w.starting) > 0) {
				w.t.Fatalf("%v: router stopped before %v, %v", ev, w.running, w.starting)
			}
		case fxTimer:
			delete(w.timers, fx.name)
			if fx.d > 0 {
				w.timers[fx.name] = fx.d
			}
		case fxDone:
			w.done = true
		}
	}
	for name, e := range w.core.modules {
		state := e.status.State
		if ok := (state == stateStarting) == w.starting[name]; !ok {
			w.t.Fatalf("%v: %s is %s, start under way: %v", ev, name, state, w.starting[name])
		}
		if ok := (state == stateRunning || state == stateStopping) == (w.running[name] != 0); !ok {
			w.t.Fatalf("%v: %s is %s with process %d", ev, name, state, w.running[name])
		}
		if _, ok := w.timers[name]; ok != (state == stateBackoff || state == stateRefused || state == stateStopping) {
			w.t.Fatalf("%v: %s is %s, timer armed: %v", ev, name, state, ok)
		}
		if e.delay > maxBackoff {
			w.t.Fatalf("%v: back-off of %v", ev, e.delay)
		}
	}
}

// pick returns a key in an order that does not depend on the map's.
func pick[V any](w *world, m map[string]V) (string, bool) {
	names := []string{}
	for _, n := range []string{RouterName, "a", "b", "c"} {
		if _, ok := m[n]; ok {
			names = append(names, n)
		}
	}
	if len(names) == 0 {
		return "", false
	}
	return rapid.SampledFrom(names).Draw(w.t, "module"), true
}

func (w *world) random() {
	switch rapid.IntRange(0, 7).Draw(w.t, "event") {
	case 0:
		var specs []wire.ModuleSpec
		for _, n := range []string{"a", "b", "c"} {
			if v := rapid.IntRange(0, 2).Draw(w.t, n); v > 0 {
				specs = append(specs, wire.ModuleSpec{Name: n, Role: "bgp", Args: []string{strconv.Itoa(v)}})
			}
		}
		w.step(evSet{specs})
	case 1, 2:
		w.answer(rapid.IntRange(0, 3).Draw(w.t, "outcome"))
	case 3:
		w.exit()
	case 4:
		w.expire()
	case 5:
		if n, ok := pick(w, w.core.modules); ok {
			w.step(evChanged{n})
		}
	case 7:
		if n, ok := pick(w, w.core.modules); ok {
			w.step(evDead{Name: n, Reason: "silent"})
		}
	case 6:
		w.now = w.now.Add(time.Duration(rapid.IntRange(0, 20).Draw(w.t, "seconds")) * time.Second)
	}
}

func (w *world) answer(outcome int) {
	n, ok := pick(w, w.starting)
	if !ok {
		return
	}
	delete(w.starting, n)
	switch outcome {
	case 0:
		w.step(evFailed{Name: n, Refused: true, Reason: "unsigned"})
	case 1:
		w.step(evFailed{Name: n, Reason: "no memory"})
	default:
		w.pid++
		w.running[n] = w.pid
		w.step(evStarted{Name: n, PID: w.pid})
	}
}

func (w *world) exit() {
	if n, ok := pick(w, w.running); ok {
		delete(w.running, n)
		w.step(evExited{n, "exit status 1"})
	}
}

func (w *world) expire() {
	n, ok := pick(w, w.timers)
	if !ok {
		return
	}
	w.now = w.now.Add(w.timers[n])
	state := w.core.modules[n].status.State
	if state != stateStopping { // an expired timer is armed no more
		delete(w.timers, n)
	}
	w.step(evTimer{n})
}

func (w *world) drain() {
	w.answer(2)
	for n := range w.running {
		if w.core.modules[n].status.State == stateStopping {
			w.exit()
			return
		}
	}
}
