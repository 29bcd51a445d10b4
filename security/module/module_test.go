package module

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"godwit/security/audit"
	"godwit/security/elfsig"
	"godwit/security/trust"
)

// parentEnv makes the test binary a supervisor that starts one module and dies.
const parentEnv = "GODWIT_TEST_PARENT"

// childProgram and otherProgram are two builds of testdata/child.
var childProgram, otherProgram []byte

func TestMain(m *testing.M) {
	if os.Getenv(parentEnv) != "" {
		parent()
		return
	}
	if err := errors.Join(buildChildren(), enforce()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func buildChildren() error {
	if dir := os.Getenv(childrenEnv); dir != "" {
		var errs [2]error
		childProgram, errs[0] = os.ReadFile(filepath.Join(dir, "child1"))
		otherProgram, errs[1] = os.ReadFile(filepath.Join(dir, "child2"))
		return errors.Join(errs[:]...)
	}
	dir, err := os.MkdirTemp("", "gwt-module-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for n, data := range map[string]*[]byte{"1": &childProgram, "2": &otherProgram} {
		path := filepath.Join(dir, n)
		cmd := exec.Command("go", "build", "-ldflags=-X=main.build="+n, "-o", path, "./testdata/child")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build child: %w\n%s", err, out)
		}
		if *data, err = os.ReadFile(path); err != nil {
			return err
		}
	}
	return nil
}

// fixture is a trust store with one key, and a loader over it.
type fixture struct {
	t      *testing.T
	dir    string
	key    ed25519.PrivateKey
	loader *Loader
	now    time.Time

	mu       sync.Mutex
	verdicts []audit.Event
}

func (f *fixture) audit(e audit.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.verdicts = append(f.verdicts, e)
}

// lastVerdict is the latest that the loader told.
func (f *fixture) lastVerdict() audit.Event {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.verdicts) == 0 {
		f.t.Fatal("no verdict was told")
	}
	return f.verdicts[len(f.verdicts)-1]
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t, dir: t.TempDir(), now: time.Unix(1_800_000_000, 0)}
	key, err := elfsig.GenerateKey()
	f.must(err)
	f.key = key
	f.must(os.Mkdir(f.path("trust"), 0o755))
	f.trust("admin", key)
	f.loader = New(Config{Trust: f.path("trust"), Now: func() time.Time { return f.now }, Audit: f.audit, Admit: admit})
	t.Cleanup(func() { f.must(f.loader.Close()) })
	return f
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) path(name string) string { return filepath.Join(f.dir, name) }

func (f *fixture) trust(label string, key ed25519.PrivateKey) {
	f.t.Helper()
	pub, err := elfsig.EncodePublicKey(key.Public().(ed25519.PublicKey))
	f.must(err)
	f.must(os.WriteFile(filepath.Join(f.path("trust"), label+".pem"), pub, 0o644))
}

func (f *fixture) revoke(line string) {
	f.t.Helper()
	f.must(os.WriteFile(filepath.Join(f.path("trust"), trust.RevokedFile), []byte("# test\n"+line+"\n"), 0o644))
}

func header() elfsig.Header {
	return elfsig.Header{Role: "bgp", Name: "godwit-bgp", Version: "1.0.0"}
}

// install signs a program into a file of the fixture.
func (f *fixture) install(name string, program []byte, h elfsig.Header) string {
	f.t.Helper()
	data, err := elfsig.Sign(program, h, f.key)
	f.must(err)
	f.must(os.WriteFile(f.path(name), data, 0o755))
	return f.path(name)
}

// run starts the image and returns what it wrote and how it ended.
func (f *fixture) run(img *Image, opt Options) (output, end string) {
	f.t.Helper()
	r, w, err := os.Pipe()
	f.must(err)
	defer r.Close()
	opt.Stderr = w
	p, err := f.start(img, opt)
	f.must(errors.Join(err, w.Close()))
	data, err := io.ReadAll(r)
	f.must(err)
	end, err = p.Wait()
	f.must(err)
	return string(data), end
}

func (f *fixture) verify(path string) *Image {
	f.t.Helper()
	img, err := f.loader.Verify(path, "bgp")
	f.must(err)
	f.t.Cleanup(func() { f.must(img.Close()) })
	return img
}

func (f *fixture) wantRefused(path, role, reason string) {
	f.t.Helper()
	img, err := f.loader.Verify(path, role)
	if img != nil {
		f.must(img.Close())
	}
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), reason) || !strings.Contains(err.Error(), path) {
		f.t.Errorf("verify: %v; want a refusal that names the file and %q", err, reason)
	}
	if e := f.lastVerdict(); e.Verdict != audit.Denied || e.File != path || e.Role != role || e.Detail != err.Error() || e.Reason == "unreadable" {
		f.t.Errorf("verdict %+v", e)
	}
}

func TestStart(t *testing.T) {
	f := newFixture(t)
	img := f.verify(f.install("m", childProgram, header()))
	out, end := f.run(img, Options{Name: "godwit-bgp", Args: []string{"args", "exit=3"}})
	if want := "build 1\nargs godwit-bgp args exit=3\n"; out != want || end != "exit status 3" {
		t.Errorf("output %q, end %q", out, end)
	}
	if img.Key.Label != "admin" || img.Signed.Version != "1.0.0" {
		t.Errorf("image says key %q, version %q", img.Key.Label, img.Signed.Version)
	}
}

// Nothing of the caller reaches the module but what Options name.
func TestStartIsClean(t *testing.T) {
	f := newFixture(t)
	t.Setenv("LD_PRELOAD", "/tmp/evil.so")
	t.Setenv("GODEBUG", "http2debug=1")
	// A descriptor that is inherited by ordinary children.
	leak, err := unix.Open("/dev/zero", unix.O_RDONLY, 0)
	f.must(err)
	defer unix.Close(leak)
	given, err := os.Open("/dev/full")
	f.must(err)
	defer given.Close()

	img := f.verify(f.install("m", childProgram, header()))
	out, _ := f.run(img, Options{Args: []string{"env", "fds"}, Env: []string{"A=b"}, Files: []*os.File{given}})
	if !strings.Contains(out, "env PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 A=b\n") {
		t.Errorf("environment is not clean:\n%s", out)
	}
	if !strings.Contains(out, "fd 0 /dev/null\n") || !strings.Contains(out, "fd 3 /dev/full\n") || !strings.Contains(out, "fds <nil>\n") {
		t.Errorf("descriptors are not those given:\n%s", out)
	}
	for _, bad := range []string{"/dev/zero", "memfd"} {
		if strings.Contains(out, bad) {
			t.Errorf("module has a descriptor of %s:\n%s", bad, out)
		}
	}
}

func TestStartInNamespace(t *testing.T) {
	f := newFixture(t)
	img := f.verify(f.install("m", childProgram, header()))
	name := fmt.Sprintf("gwt-module-%d", os.Getpid())
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Fatalf("add namespace: %v\n%s", err, out)
	}
	t.Cleanup(func() { f.must(exec.Command("ip", "netns", "del", name).Run()) })
	var st unix.Stat_t
	f.must(unix.Stat("/run/netns/"+name, &st))
	want := fmt.Sprintf("netns net:[%d]", st.Ino)
	own, err := os.Readlink("/proc/self/ns/net")
	f.must(err)
	for range 3 { // and back each time
		if out, _ := f.run(img, Options{Args: []string{"netns"}, NetNS: "/run/netns/" + name}); !strings.Contains(out, want) {
			t.Errorf("in the namespace: %q, want %q", out, want)
		}
		if out, _ := f.run(img, Options{Args: []string{"netns"}}); !strings.Contains(out, "netns "+own) {
			t.Errorf("in our own: %q, want %q", out, own)
		}
	}
	if _, err := f.loader.Start(img, Options{NetNS: "/run/netns/" + name + "-none"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing namespace: %v", err)
	}
	if _, err := f.loader.Start(img, Options{NetNS: "/etc/hostname"}); err == nil {
		t.Error("a file that is no namespace was taken")
	}
}

func TestRefused(t *testing.T) {
	f := newFixture(t)
	good := f.install("good", childProgram, header())
	f.wantRefused(good, "linecard", `signed as "bgp", wanted as "linecard"`)

	f.must(os.WriteFile(f.path("unsigned"), childProgram, 0o755))
	f.wantRefused(f.path("unsigned"), "bgp", "no signature section")

	f.must(os.WriteFile(f.path("script"), []byte("#!/bin/sh\n"+strings.Repeat("true\n", 100)), 0o755))
	f.wantRefused(f.path("script"), "bgp", "not a well-formed")

	data, err := os.ReadFile(good)
	f.must(err)
	data[len(data)/2] ^= 4
	f.must(os.WriteFile(f.path("flipped"), data, 0o755))
	f.wantRefused(f.path("flipped"), "bgp", "signature does not match")

	// The signature section of one module put into another.
	data[len(data)/2] ^= 4
	other, err := os.ReadFile(f.install("other", otherProgram, header()))
	f.must(err)
	at, from := bytes.LastIndex(other, []byte("GODWITSG")), bytes.LastIndex(data, []byte("GODWITSG"))
	copy(other[at:at+1024], data[from:])
	f.must(os.WriteFile(f.path("other"), other, 0o755))
	f.wantRefused(f.path("other"), "bgp", "signature does not match")

	own := f.key
	f.key, err = elfsig.GenerateKey()
	f.must(err)
	f.wantRefused(f.install("strange", childProgram, header()), "bgp", "key not trusted")
	f.key = own

	f.must(os.Mkdir(f.path("dir"), 0o755))
	f.wantRefused(f.path("dir"), "bgp", "not a regular file")
	f.must(unix.Mkfifo(f.path("fifo"), 0o644)) // must not block
	f.wantRefused(f.path("fifo"), "bgp", "not a regular file")

	if _, err := f.loader.Verify(f.path("none"), "bgp"); !errors.Is(err, os.ErrNotExist) || errors.Is(err, ErrRefused) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := f.loader.Start(nil, Options{}); err == nil {
		t.Error("started nothing")
	}
	if _, err := f.loader.Start(&Image{Path: good}, Options{}); err == nil {
		t.Error("started an image that nobody verified")
	}
}

// A dynamic executable would run what its interpreter loads.
func TestDynamicRefused(t *testing.T) {
	f := newFixture(t)
	sh, err := os.ReadFile("/bin/sh")
	f.must(err)
	f.wantRefused(f.install("sh", sh, header()), "bgp", "not a static executable")
}

func TestValidity(t *testing.T) {
	f := newFixture(t)
	h := header()
	h.NotBefore, h.NotAfter = f.now.Add(-time.Hour), f.now.Add(time.Hour)
	path := f.install("m", childProgram, h)
	f.verify(path)
	f.now = f.now.Add(2 * time.Hour) // also for a held image
	f.wantRefused(path, "bgp", "expired")
	f.now = f.now.Add(-4 * time.Hour)
	f.wantRefused(path, "bgp", "not valid yet")
}

func TestRevocation(t *testing.T) {
	f := newFixture(t)
	path := f.install("m", childProgram, header())
	img := f.verify(path)
	f.revoke("key " + img.Key.ID.String())
	f.wantRefused(path, "bgp", "revoked")
	f.revoke("build " + img.Signed.BuildID)
	f.wantRefused(path, "bgp", "revoked")
	f.revoke("signature " + img.Signed.Signature())
	f.wantRefused(path, "bgp", "revoked")
	f.revoke("key 0000000000000000")
	f.verify(path)
	f.revoke("key nonsense") // a list that cannot be read revokes everything
	f.wantRefused(path, "bgp", "trust store")
}

func TestTrustIsReadEachTime(t *testing.T) {
	f := newFixture(t)
	path := f.install("m", childProgram, header())
	f.verify(path)
	before := f.loader.Stamp(path)
	other, err := elfsig.GenerateKey()
	f.must(err)
	f.trust("other", other)
	if f.loader.Stamp(path) == before {
		t.Error("stamp is the same after a key was added")
	}
	f.must(os.Remove(filepath.Join(f.path("trust"), "admin.pem")))
	f.wantRefused(path, "bgp", "key not trusted")
	f.must(os.RemoveAll(f.path("trust")))
	f.wantRefused(path, "bgp", "trust store")
}

// A second start of the same file computes no digest; a changed one does.
func TestCache(t *testing.T) {
	f := newFixture(t)
	path := f.install("m", childProgram, header())
	for range 3 {
		f.verify(path)
	}
	if n := f.loader.Digests(); n != 1 {
		t.Errorf("%d digests for three starts of one file, want 1", n)
	}
	stamp := f.loader.Stamp(path)
	f.install("m", otherProgram, header())
	if f.loader.Stamp(path) == stamp {
		t.Error("stamp is the same after the file was written")
	}
	if out, _ := f.run(f.verify(path), Options{}); out != "build 2\n" {
		t.Errorf("after the file was replaced: %q", out)
	}
	if n := f.loader.Digests(); n != 2 {
		t.Errorf("%d digests after a change, want 2", n)
	}
}

// Speakers of many VRFs start at once: one copy, one digest.
func TestManyAtOnce(t *testing.T) {
	f := newFixture(t)
	path := f.install("m", childProgram, header())
	const starts = 50
	results := make(chan error, starts)
	for range starts {
		go func() {
			img, err := f.loader.Verify(path, "bgp")
			if err != nil {
				results <- err
				return
			}
			p, err := f.start(img, Options{})
			if err == nil {
				_, err = p.Wait()
			}
			results <- errors.Join(err, img.Close())
		}()
	}
	for range starts {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if n := f.loader.Digests(); n != 1 {
		t.Errorf("%d digests for %d starts, want 1", n, starts)
	}
}

// What was verified is what runs, whatever happens to the path.
func TestPathSwapped(t *testing.T) {
	evil := []byte("#!/bin/sh\necho evil >&2\n")
	swaps := map[string]func(f *fixture, path string) error{
		"rename": func(f *fixture, path string) error {
			return errors.Join(os.WriteFile(f.path("evil"), evil, 0o755), os.Rename(f.path("evil"), path))
		},
		"in place": func(f *fixture, path string) error {
			w, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = w.Write(evil)
			return errors.Join(err, w.Close())
		},
		"symbolic link": func(f *fixture, path string) error {
			return errors.Join(os.Remove(path), os.WriteFile(f.path("evil"), evil, 0o755), os.Symlink(f.path("evil"), path))
		},
		"hard link": func(f *fixture, path string) error {
			return errors.Join(os.Remove(path), os.WriteFile(f.path("evil"), evil, 0o755), os.Link(f.path("evil"), path))
		},
		"bind mount": func(f *fixture, path string) error {
			if err := os.WriteFile(f.path("evil"), evil, 0o755); err != nil {
				return err
			}
			f.t.Cleanup(func() { f.must(unix.Unmount(path, unix.MNT_DETACH)) })
			return unix.Mount(f.path("evil"), path, "", unix.MS_BIND, "")
		},
		"removed": func(f *fixture, path string) error { return os.Remove(path) },
	}
	for name, swap := range swaps {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			path := f.install("m", childProgram, header())
			img := f.verify(path)
			f.must(swap(f, path))
			if out, end := f.run(img, Options{}); out != "build 1\n" || end != "exit status 0" {
				t.Errorf("verified image ran as %q, %s", out, end)
			}
			if again, err := f.loader.Verify(path, "bgp"); err == nil {
				f.must(again.Close())
				t.Error("the swapped file was verified")
			}
		})
	}
}

func TestImageIsSealed(t *testing.T) {
	f := newFixture(t)
	img := f.verify(f.install("m", childProgram, header()))
	path := "/proc/self/fd/" + strconv.Itoa(int(img.mem.file.Fd()))
	w, err := os.OpenFile(path, os.O_RDWR, 0)
	f.must(err)
	defer w.Close()
	if _, err := w.WriteAt([]byte("x"), 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("write: %v", err)
	}
	if err := w.Truncate(0); !errors.Is(err, unix.EPERM) {
		t.Errorf("shrink: %v", err)
	}
	if err := w.Truncate(1 << 30); !errors.Is(err, unix.EPERM) {
		t.Errorf("grow: %v", err)
	}
	if _, err := unix.Mmap(int(w.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); !errors.Is(err, unix.EPERM) {
		t.Errorf("map writable: %v", err)
	}
	if _, err := unix.FcntlInt(w.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_FUTURE_WRITE); !errors.Is(err, unix.EPERM) {
		t.Errorf("add a seal: %v", err)
	}
}

func TestNoDescriptorLeaks(t *testing.T) {
	f := newFixture(t)
	good := f.install("m", childProgram, header())
	f.must(os.WriteFile(f.path("bad"), childProgram, 0o755))
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		f.must(err)
		return len(entries)
	}
	img, err := f.loader.Verify(good, "bgp")
	f.must(err)
	f.must(img.Close())
	before := count()
	for range 5 {
		img, err := f.loader.Verify(good, "bgp")
		f.must(err)
		f.run(img, Options{})
		f.must(img.Close())
		f.wantRefused(f.path("bad"), "bgp", "no signature")
		f.wantRefused(good, "router", "wanted as")
		f.install("m", childProgram, header()) // changed: the held image is replaced
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

func TestClosedLoader(t *testing.T) {
	f := newFixture(t)
	path := f.install("m", childProgram, header())
	loader := New(Config{Trust: f.path("trust"), Now: time.Now})
	img, err := loader.Verify(path, "bgp")
	f.must(err)
	p, err := loader.Start(img, Options{Args: []string{"sleep"}})
	f.must(err)
	f.must(loader.Close())
	if end, err := p.Wait(); err != nil || end != "signal: killed" {
		t.Errorf("module of a closed loader: %q, %v", end, err)
	}
	if _, err := loader.Start(img, Options{}); !errors.Is(err, ErrClosed) {
		t.Errorf("start: %v", err)
	}
	f.must(img.Close())
}

// parent is what the test binary does when parentEnv is set: it starts a module
// that sleeps, prints its process id, and waits to be killed.
func parent() {
	loader := New(Config{Trust: os.Getenv(parentEnv) + "/trust", Now: time.Now})
	img, err := loader.Verify(os.Getenv(parentEnv)+"/m", "bgp")
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := loader.Start(img, Options{Args: []string{"sleep"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p.PID())
	_, _ = p.Wait()
}

// A module dies with its supervisor, also when that is killed.
func TestParentDeath(t *testing.T) {
	f := newFixture(t)
	f.install("m", childProgram, header())
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), parentEnv+"="+f.dir)
	out, err := cmd.StdoutPipe()
	f.must(err)
	f.must(cmd.Start())
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		f.must(cmd.Process.Kill())
		t.Fatalf("parent: %v", err)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	f.must(err)
	defer unix.Close(fd)
	f.must(cmd.Process.Signal(syscall.SIGKILL))
	if err := cmd.Wait(); err == nil {
		t.Error("killed parent ended well")
	}
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 5000); n != 1 {
		t.Errorf("module %d lives on: %v", pid, err)
		f.must(syscall.Kill(pid, syscall.SIGKILL))
	}
}
