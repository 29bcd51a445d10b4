package supervisor

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"godwit/cluster/bus"
	"godwit/cluster/bus/local"
	"godwit/cluster/health"
	"godwit/cluster/session"
	"godwit/cluster/wire"
	"godwit/event"
	"godwit/security/elfsig"
)

// program is testdata/module, built.
var program []byte

// deadline bounds every wait of these tests.
const deadline = 15 * time.Second

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		superviseUntilKilled(dir)
		return
	}
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func build() error {
	dir, err := os.MkdirTemp("", "gwt-supervisor-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "module")
	cmd := exec.Command("go", "build", "-o", path, "./testdata/module")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build module: %w\n%s", err, out)
	}
	program, err = os.ReadFile(path)
	return err
}

// chassis is a supervisor over a directory, and a routing engine's session to it.
type chassis struct {
	t      *testing.T
	dir    string
	key    ed25519.PrivateKey
	sup    *Supervisor
	ended  chan error
	output *output
	config func(*Config) // changes the configuration of boot; may be nil

	silence time.Duration // see Config
	record  io.Writer

	loop    *event.Loop
	work    *event.Handler
	bus     bus.Bus
	follow  io.Closer
	session *session.Session // owned by loop

	mu     sync.Mutex
	events []wire.ModuleStatus
}

func newChassis(t *testing.T) *chassis {
	c := &chassis{t: t, dir: t.TempDir()}
	var err error
	c.key, err = elfsig.GenerateKey()
	c.must(err)
	c.must(os.MkdirAll(c.path("trust"), 0o755))
	pub, err := elfsig.EncodePublicKey(c.key.Public().(ed25519.PublicKey))
	c.must(err)
	c.must(os.WriteFile(c.path("trust/test.pem"), pub, 0o644))
	c.must(os.Mkdir(c.path("lib"), 0o755))
	for _, role := range []string{"router", "linecard", "bgp"} {
		c.install(role, role)
	}
	return c
}

func (c *chassis) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *chassis) path(name string) string { return filepath.Join(c.dir, name) }

// install signs the program as a role into the file of a role, as an
// administrator does: the new file replaces the old one.
func (c *chassis) install(file, role string) {
	c.t.Helper()
	data, err := elfsig.Sign(program, elfsig.Header{Role: role, Name: "godwit-" + role, Version: "1.2.3"}, c.key)
	c.must(err)
	c.replace(file, data)
}

func (c *chassis) replace(file string, data []byte) {
	c.t.Helper()
	path := c.path("lib/godwit-" + file)
	c.must(os.WriteFile(path+".new", data, 0o755))
	c.must(os.Rename(path+".new", path))
}

func testConfig(dir string, stderr *os.File, log *slog.Logger) Config {
	return Config{
		RunDir: filepath.Join(dir, "run"), StateDir: filepath.Join(dir, "state"), Instance: "test",
		LibDir: filepath.Join(dir, "lib"), TrustDir: filepath.Join(dir, "trust"), Stderr: stderr, Log: log,
		NoEnforce: true, Self: wire.ModuleInfo{Name: "supervisor", Role: "supervisor", Version: "1.2.3", PID: os.Getpid()},
	}
}

// output collects what supervisor and modules write.
type output struct {
	r, w *os.File
	done chan struct{}
	mu   sync.Mutex
	text strings.Builder
}

func newOutput(c *chassis) *output {
	o := &output{done: make(chan struct{})}
	var err error
	o.r, o.w, err = os.Pipe()
	c.must(err)
	go func() {
		defer close(o.done)
		for sc := bufio.NewScanner(o.r); sc.Scan(); {
			o.mu.Lock()
			o.text.WriteString(sc.Text() + "\n")
			o.mu.Unlock()
		}
	}()
	return o
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// boot starts the supervisor and connects to it.
func (c *chassis) boot() {
	c.t.Helper()
	c.output = newOutput(c)
	cfg := testConfig(c.dir, c.output.w, slog.New(slog.NewTextHandler(c.output.w, nil)))
	cfg.Silence, cfg.Record = c.silence, c.record
	if c.config != nil {
		c.config(&cfg)
	}
	sup, err := New(cfg)
	c.must(err)
	c.sup, c.ended = sup, make(chan error, 1)
	go func() { c.ended <- sup.Run(context.Background()) }()
	c.connect()
	c.t.Cleanup(func() {
		c.disconnect()
		_ = c.sup.Shutdown()
		_ = c.sup.Shutdown() // in haste
		<-c.ended
		c.closeOutput()
	})
}

func (c *chassis) closeOutput() {
	c.output.w.Close()
	<-c.output.done
	c.output.r.Close()
	if c.t.Failed() {
		c.t.Logf("output:\n%s", c.output)
	}
}

func (c *chassis) connect() {
	c.t.Helper()
	c.loop = event.New("test")
	c.work = c.loop.Handler("test", event.Normal)
	var err error
	c.bus, err = local.Join(c.path("run"), "test")
	c.must(err)
	up := make(chan struct{}, 1)
	c.follow, err = session.Follow(c.work, c.bus, bus.One(bus.TypeSupervisor, 0), func(_ uint32, s *session.Session) session.Handler {
		c.session = s
		select {
		case up <- struct{}{}:
		default:
		}
		return c
	})
	c.must(err)
	go func() { _ = c.loop.Run(context.Background()) }()
	select {
	case <-up:
	case <-time.After(deadline):
		c.t.Fatal("no session to the supervisor")
	}
}

func (c *chassis) disconnect() {
	if c.follow == nil {
		return
	}
	_ = c.follow.Close()
	_ = c.bus.Close()
	c.loop.Stop()
	c.follow = nil
}

// Receive implements session.Handler.
func (c *chassis) Receive(_ *session.Session, m session.Message) {
	var st wire.ModuleStatus
	if err := wire.DecodeKind(m.Kind, m.Body, &st); err != nil || m.Kind != wire.ModuleEvent {
		c.t.Errorf("message %v: %v", m.Kind, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, st)
}

// Closed implements session.Handler.
func (c *chassis) Closed(*session.Session, error) {}

// request asks the supervisor and decodes the answer.
func (c *chassis) request(k wire.Kind, v, answer any) error {
	result := make(chan error, 1)
	err := c.work.Post(func() {
		c.session.Request(k, v, deadline, func(m session.Message, err error) {
			if err == nil && answer != nil {
				err = json.Unmarshal(m.Body, answer)
			}
			result <- err
		})
	})
	return errors.Join(err, <-result)
}

func (c *chassis) set(specs ...wire.ModuleSpec) {
	c.t.Helper()
	c.must(c.request(wire.SetModules, wire.SetModulesBody{Modules: specs}, nil))
}

func (c *chassis) modules() map[string]wire.ModuleStatus {
	c.t.Helper()
	var list wire.ModuleList
	c.must(c.request(wire.GetModules, struct{}{}, &list))
	m := map[string]wire.ModuleStatus{}
	for _, st := range list.Modules {
		m[st.Name] = st
	}
	return m
}

// await polls the supervisor until the module is as wanted.
func (c *chassis) await(name, what string, ok func(wire.ModuleStatus) bool) wire.ModuleStatus {
	c.t.Helper()
	var st wire.ModuleStatus
	c.poll(name+" "+what, func() bool {
		st = c.modules()[name]
		return ok(st)
	})
	return st
}

func (c *chassis) poll(what string, ok func() bool) {
	c.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(deadline); !ok(); <-tick.C {
		if time.Now().After(end) {
			c.t.Fatalf("not within %v: %s; modules %+v", deadline, what, c.modules())
		}
	}
}

func in(state string) func(wire.ModuleStatus) bool {
	return func(st wire.ModuleStatus) bool { return st.State == state }
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// stop shuts down and checks that nothing is left.
func (c *chassis) stop() {
	c.t.Helper()
	c.disconnect()
	c.must(c.sup.Shutdown())
	select {
	case err := <-c.ended:
		c.must(err)
		c.ended <- nil // for the clean-up
	case <-time.After(deadline):
		c.t.Fatal("does not shut down")
	}
	if entries, err := os.ReadDir(c.path("run")); !errors.Is(err, os.ErrNotExist) {
		c.t.Errorf("run directory is left with %v, %v", entries, err)
	}
}

func TestLife(t *testing.T) {
	c := newChassis(t)
	c.boot()
	router := c.await("router", "runs", in(stateRunning))
	if router.Version != "1.2.3" || router.KeyID == "" || router.BuildID == "" || router.Verify != "verified only" {
		t.Errorf("status %+v", router)
	}
	c.set(wire.ModuleSpec{Name: "linecard-1", Role: "linecard", Args: []string{"--card", "1"}}, wire.ModuleSpec{Name: "bgp-red", Role: "bgp"})
	card := c.await("linecard-1", "runs", in(stateRunning))
	bgp := c.await("bgp-red", "runs", in(stateRunning))

	want := fmt.Sprintf("module: godwit-linecard --name linecard-1 --run-dir %s/run --state-dir %s/state --instance test --card 1\n", c.dir, c.dir)
	c.poll("the line card has begun", func() bool { return strings.Count(c.output.String(), want) == 1 })

	// Killed, it is back at once, and the others did not notice.
	c.must(syscall.Kill(card.PID, syscall.SIGKILL))
	again := c.await("linecard-1", "runs again", func(st wire.ModuleStatus) bool { return st.State == stateRunning && st.PID != card.PID })
	if again.Restarts != 1 || again.LastExit != "signal: killed" {
		t.Errorf("after a kill: %+v", again)
	}
	if now := c.modules(); now["router"].PID != router.PID || now["bgp-red"].PID != bgp.PID {
		t.Errorf("others restarted: %+v", now)
	}
	c.set(wire.ModuleSpec{Name: "linecard-1", Role: "linecard", Args: []string{"--card", "1"}})
	c.poll("bgp-red is gone", func() bool { _, ok := c.modules()["bgp-red"]; return !ok })
	if alive(bgp.PID) {
		t.Errorf("module that is not listed any more runs as %d", bgp.PID)
	}
	c.poll("both line cards have begun", func() bool { return strings.Count(c.output.String(), want) == 2 })
	c.stop()
	for _, pid := range []int{router.PID, again.PID} {
		if alive(pid) {
			t.Errorf("process %d is left", pid)
		}
	}
	out := c.output.String()
	lc, r := strings.Index(out, "stopped: godwit-linecard"), strings.Index(out, "stopped: godwit-router")
	if lc < 0 || r < 0 || r < lc {
		t.Errorf("line card stopped at %d, routing engine at %d of the output", lc, r)
	}
}

func TestEventsArrive(t *testing.T) {
	c := newChassis(t)
	c.boot()
	c.await("router", "runs", in(stateRunning))
	c.set(wire.ModuleSpec{Name: "bgp-red", Role: "bgp", Args: []string{"crash"}})
	c.poll("two crashes", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		n := 0
		for _, st := range c.events {
			if st.Name == "bgp-red" && st.State == stateBackoff {
				n++
			}
		}
		return n >= 2
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	var states []string
	for _, st := range c.events {
		if st.Name == "bgp-red" {
			states = append(states, st.State)
		}
	}
	if got := strings.Join(states[:6], " "); got != "starting running backoff starting running backoff" {
		t.Errorf("events: %s", got)
	}
}

func TestCrashLoopBacksOff(t *testing.T) {
	c := newChassis(t)
	c.boot()
	c.set(wire.ModuleSpec{Name: "bgp-red", Role: "bgp", Args: []string{"crash"}})
	begin := time.Now()
	st := c.await("bgp-red", "crashed four times", func(st wire.ModuleStatus) bool { return st.Restarts >= 4 })
	if took := time.Since(begin); took < 700*time.Millisecond { // 100 + 200 + 400 ms
		t.Errorf("four starts within %v", took)
	}
	if st.LastExit != "exit status 9" || !strings.Contains(st.Reason, "exit status 9; next start in ") {
		t.Errorf("status %+v", st)
	}
	c.stop()
}

func TestRefusedUntilTheFileChanges(t *testing.T) {
	c := newChassis(t)
	flipped, err := os.ReadFile(c.path("lib/godwit-bgp"))
	c.must(err)
	flipped[len(flipped)/3] ^= 1
	c.replace("bgp", flipped)
	c.boot()
	c.set(wire.ModuleSpec{Name: "bgp-red", Role: "bgp"})
	st := c.await("bgp-red", "is refused", in(stateRefused))
	if !strings.Contains(st.Reason, "signature does not match") || st.PID != 0 || st.Restarts != 0 {
		t.Errorf("status %+v", st)
	}
	c.poll("reason in the log", func() bool { return strings.Contains(c.output.String(), "signature does not match") })
	c.install("bgp", "linecard")
	c.await("bgp-red", "is refused for its role", func(st wire.ModuleStatus) bool {
		return strings.Contains(st.Reason, `signed as "linecard", wanted as "bgp"`)
	})
	c.replace("bgp", program)
	c.await("bgp-red", "is refused unsigned", func(st wire.ModuleStatus) bool {
		return strings.Contains(st.Reason, "no signature section")
	})
	c.must(os.Remove(c.path("lib/godwit-bgp")))
	c.await("bgp-red", "is missing", func(st wire.ModuleStatus) bool { return strings.Contains(st.Reason, "no such file") })
	c.install("bgp", "bgp")
	c.await("bgp-red", "runs", in(stateRunning))
	// The key goes: what runs goes on, what starts is refused.
	c.must(os.Rename(c.path("trust/test.pem"), c.path("test.pem")))
	c.must(syscall.Kill(c.modules()["bgp-red"].PID, syscall.SIGKILL))
	c.await("bgp-red", "is not trusted", func(st wire.ModuleStatus) bool { return strings.Contains(st.Reason, "trust store") })
	if st := c.modules()["router"]; st.State != stateRunning {
		t.Errorf("router %+v", st)
	}
	c.must(os.Rename(c.path("test.pem"), c.path("trust/test.pem")))
	c.await("bgp-red", "runs", in(stateRunning))
	c.stop()
}

func TestDeafModuleIsKilled(t *testing.T) {
	c := newChassis(t)
	c.boot()
	c.set(wire.ModuleSpec{Name: "bgp-red", Role: "bgp", Args: []string{"deaf"}})
	c.await("bgp-red", "runs", in(stateRunning))
	c.poll("it ignores signals", func() bool { return strings.Contains(c.output.String(), "--instance test deaf") })
	pid := c.modules()["bgp-red"].PID
	begin := time.Now()
	c.stop()
	if took := time.Since(begin); took < stopGrace {
		t.Errorf("stopped within %v, the grace is %v", took, stopGrace)
	}
	if alive(pid) {
		t.Errorf("deaf module %d is left", pid)
	}
}

func TestRequests(t *testing.T) {
	c := newChassis(t)
	c.boot()
	var names wire.NameList
	c.must(c.request(wire.GetNames, struct{}{}, &names))
	if len(names.Names) != 1 || names.Names[0].Type != bus.TypeSupervisor || names.Names[0].PID != os.Getpid() {
		t.Errorf("names %+v", names)
	}
	var self wire.ModuleInfo
	c.must(c.request(wire.GetModule, struct{}{}, &self))
	if self.Name != "supervisor" || self.PID != os.Getpid() {
		t.Errorf("module %+v", self)
	}
	var stats event.Stats
	c.must(c.request(wire.GetEvents, struct{}{}, &stats))
	if len(stats.Handlers) == 0 {
		t.Errorf("stats %+v", stats)
	}
	for name, tt := range map[string]struct {
		kind wire.Kind
		body any
	}{
		"unknown request": {wire.GetFIB, struct{}{}},
		"unknown field":   {wire.SetModules, map[string]int{"modulez": 1}},
		"router":          {wire.SetModules, wire.SetModulesBody{Modules: []wire.ModuleSpec{{Name: "router", Role: "router"}}}},
		"path as role":    {wire.SetModules, wire.SetModulesBody{Modules: []wire.ModuleSpec{{Name: "x", Role: "../../bin/sh"}}}},
		"path as name":    {wire.SetModules, wire.SetModulesBody{Modules: []wire.ModuleSpec{{Name: "../x", Role: "bgp"}}}},
		"relative netns":  {wire.SetModules, wire.SetModulesBody{Modules: []wire.ModuleSpec{{Name: "x", Role: "bgp", NetNS: "red"}}}},
		"twice":           {wire.SetModules, wire.SetModulesBody{Modules: []wire.ModuleSpec{{Name: "x", Role: "bgp"}, {Name: "x", Role: "bgp"}}}},
		"too many":        {wire.SetModules, wire.SetModulesBody{Modules: make([]wire.ModuleSpec, maxModules+1)}},
	} {
		if err := c.request(tt.kind, tt.body, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if m := c.modules(); len(m) != 1 {
		t.Errorf("modules after bad requests: %+v", m)
	}
}

func TestSecondSupervisorIsRefused(t *testing.T) {
	c := newChassis(t)
	c.boot()
	pid := c.await("router", "runs", in(stateRunning)).PID
	if s, err := New(testConfig(c.dir, nil, slog.New(slog.DiscardHandler))); err == nil {
		t.Errorf("two supervisors in one run directory: %v", s)
	}
	if !alive(pid) || c.modules()["router"].PID != pid {
		t.Error("the first one's routing engine was disturbed")
	}
	if _, err := os.Stat(c.path("run/bus.sock")); err != nil {
		t.Errorf("the first one's files were disturbed: %v", err)
	}
	c.stop()
}

// childEnv makes the test binary a supervisor that runs until it is killed.
const childEnv = "GODWIT_TEST_SUPERVISOR"

func superviseUntilKilled(dir string) {
	cfg := testConfig(dir, os.Stderr, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	cfg.Stuck = time.Second
	s, err := New(cfg)
	if err == nil && os.Getenv(hangEnv) != "" {
		s.work.Every(10*time.Millisecond, s.hangForEver)
	}
	if err == nil {
		err = s.Run(context.Background())
	}
	fmt.Fprintln(os.Stderr, "supervisor ended:", err)
}

// hangEnv makes the child's supervisor hang once a module runs.
const hangEnv = "GODWIT_TEST_SUPERVISOR_HANG"

func (s *Supervisor) hangForEver() {
	if st := s.core.modules[RouterName]; st != nil && st.status.State == stateRunning {
		select {}
	}
}

// TestStuckSupervisorEndsItself: with the stacks in the log and a status that
// says why; its modules go with it, and the next one starts over.
func TestStuckSupervisorEndsItself(t *testing.T) {
	c := newChassis(t)
	out := newOutput(c)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+c.dir, hangEnv+"=1")
	cmd.Stderr = out.w
	c.must(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(2 * deadline):
		_ = cmd.Process.Kill()
		<-ended
		t.Error("it hangs for ever")
	}
	if code := cmd.ProcessState.ExitCode(); code != health.ExitStuck {
		t.Errorf("exit status %d, want %d", code, health.ExitStuck)
	}
	c.output = out
	c.closeOutput()
	for _, want := range []string{"the event loop hangs", "handler=modules", "hangForEver"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in the log", want)
		}
	}
	var pid int
	data, err := os.ReadFile(c.path("run/pid/router"))
	c.must(err)
	_, err = fmt.Sscan(string(data), &pid)
	c.must(err)
	c.pollAlone("end of the routing engine", func() bool { return !alive(pid) })

	c.boot()
	if st := c.await("router", "runs again", in(stateRunning)); st.PID == pid {
		t.Errorf("%+v", st)
	}
	c.stop()
}

// A supervisor that is killed takes its modules with it; the next one starts
// over what it left.
func TestSupervisorKilled(t *testing.T) {
	c := newChassis(t)
	out := newOutput(c)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+c.dir)
	cmd.Stderr = out.w
	c.must(cmd.Start())
	var pid int
	c.pollAlone("pid file", func() bool {
		data, err := os.ReadFile(c.path("run/pid/router"))
		if err != nil {
			return false
		}
		n, err := fmt.Sscan(string(data), &pid)
		return err == nil && n == 1
	})
	fd, err := unix.PidfdOpen(pid, 0)
	c.must(err)
	defer unix.Close(fd)
	c.must(cmd.Process.Kill())
	_ = cmd.Wait()
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(deadline.Milliseconds())); n != 1 {
		t.Errorf("routing engine %d lives on: %v", pid, err)
	}
	c.output = out
	c.closeOutput()
	if _, err := os.Stat(c.path("run/bus.sock")); err != nil {
		t.Errorf("the killed supervisor left no socket to start over: %v", err)
	}

	// And one that somehow lived on is killed by the next supervisor.
	lost := exec.Command("sleep", "3600")
	c.must(lost.Start())
	start, err := startTime(lost.Process.Pid)
	c.must(err)
	c.must(os.WriteFile(c.path("run/pid/bgp-lost"), fmt.Appendf(nil, "%d %s\n", lost.Process.Pid, start), 0o640))
	// Not one that merely has the process id.
	innocent := exec.Command("sleep", "3600")
	c.must(innocent.Start())
	c.must(os.WriteFile(c.path("run/pid/bgp-old"), fmt.Appendf(nil, "%d 1\n", innocent.Process.Pid), 0o640))
	c.must(os.WriteFile(c.path("run/pid/garbage"), []byte("x"), 0o640))
	c.boot()
	c.await("router", "runs", in(stateRunning))
	if err := lost.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("leftover module: %v", err)
	}
	if !alive(innocent.Process.Pid) {
		t.Error("killed a process that is not a module")
	}
	c.must(innocent.Process.Kill())
	_ = innocent.Wait()
	c.stop()
}

// pollAlone polls without a supervisor to ask when it fails.
func (c *chassis) pollAlone(what string, ok func() bool) {
	c.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(deadline); !ok(); <-tick.C {
		if time.Now().After(end) {
			c.t.Fatalf("not within %v: %s", deadline, what)
		}
	}
}

func TestShutdownOnSignals(t *testing.T) {
	c := newChassis(t)
	c.config = func(cfg *Config) { cfg.Signals = []os.Signal{syscall.SIGUSR2} }
	c.boot()
	c.await("router", "runs", in(stateRunning))
	c.must(syscall.Kill(os.Getpid(), syscall.SIGUSR2))
	select {
	case err := <-c.ended:
		c.must(err)
		c.ended <- nil
	case <-time.After(deadline):
		t.Fatal("does not shut down")
	}
}

func TestNewFailsCleanly(t *testing.T) {
	c := newChassis(t)
	cfg := testConfig(c.dir, nil, slog.New(slog.DiscardHandler))
	c.must(os.WriteFile(c.path("run"), nil, 0o644)) // a file where the directory should be
	if _, err := New(cfg); err == nil {
		t.Error("no error")
	}
	c.must(os.Remove(c.path("run")))
	c.must(os.RemoveAll(c.path("state")))
	c.must(os.WriteFile(c.path("state"), nil, 0o644))
	if _, err := New(cfg); err == nil {
		t.Error("no error")
	}
}
