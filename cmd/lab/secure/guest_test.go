package secure

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"godwit/cmd/lab/topology"
	"godwit/cmd/mkimage/image"
)

// console is a machine's serial line.
type console struct {
	mu  sync.Mutex
	out bytes.Buffer
	in  io.Writer
}

func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(b)
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.ReplaceAll(c.out.String(), "\r", "")
}

// wait polls until want is on the console behind mark.
func (c *console) wait(t *testing.T, want string, mark int, limit time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	err := topology.Wait(ctx, func() error {
		if !strings.Contains(c.String()[mark:], want) {
			return fmt.Errorf("no %q on the console", want)
		}
		return nil
	})
	if err != nil {
		s := c.String()
		t.Fatalf("%v\n%s", err, s[max(0, len(s)-6000):])
	}
}

// answer types a line and returns what is printed until the prompt is there again.
func (c *console) answer(t *testing.T, line, prompt string) string {
	t.Helper()
	mark := len(c.String())
	if _, err := io.WriteString(c.in, line+"\r"); err != nil {
		t.Fatal(err)
	}
	c.wait(t, "\n"+prompt, mark, time.Minute)
	return c.String()[mark:]
}

// run boots a machine.
func run(t *testing.T, m image.Machine) *console {
	t.Helper()
	cmd, err := m.Command()
	if err != nil {
		t.Fatal(err)
	}
	con := &console{}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	con.in, cmd.Stdout, cmd.Stderr = in, con, con
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed, or powered off
	})
	return con
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// offered tells whether Debian has the kernel.
func offered(t *testing.T, pkg string) bool {
	t.Helper()
	return exec.CommandContext(t.Context(), "apt-cache", "show", pkg).Run() == nil
}

// fileSystem makes an empty file system that can protect files.
func fileSystem(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "verity.img")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 24<<20)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "mkfs.ext4", "-q", "-F", "-b", "4096", "-O", "verity", path).CombinedOutput(); err != nil {
		t.Fatalf("make file system: %v: %s", err, out)
	}
	return path
}

const guestScript = `
mount -t bpf bpf /sys/fs/bpf; mount -t cgroup2 cgroup2 /sys/fs/cgroup
if [ -e /modules/loop.ko ]; then
  mkdir /verity; insmod /modules/loop.ko && mount -o loop /verity.img /verity && export LSM_VERITY=/verity
fi
export GODWIT_LSM_GUEST=1 GODWIT_TEST_CHILDREN=/
/prog -test.v -test.timeout 400s 2>&1
echo "guest: kernel tests ended with $?"
/loader -test.v -test.timeout 400s -test.skip 'Dynamic|StartInNamespace' 2>&1
echo "guest: ended with $?"
poweroff -f
`

// guestPrograms are the tests of the kernel's enforcement and those of the
// loader, without what needs tools that the guest has not.
func guestPrograms(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{}
	for name, args := range map[string][]string{
		"prog":   {"test", "-c", "godwit/security/lsm"},
		"loader": {"test", "-c", "godwit/security/module"},
		"child1": {"build", "-ldflags=-X=main.build=1", "godwit/security/module/testdata/child"},
		"child2": {"build", "-ldflags=-X=main.build=2", "godwit/security/module/testdata/child"},
	} {
		files[name] = filepath.Join(dir, name)
		cmd := exec.CommandContext(t.Context(), "go", slices.Insert(args, 1, "-o", files[name])...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v: %s", name, err, out)
		}
	}
	return files
}

// TestKernels runs the tests of the kernel's enforcement on Debian's kernels:
// everything that is tried inside of the group is refused, everything outside
// works. The loader's tests follow, their modules inside.
func TestKernels(t *testing.T) {
	programs := guestPrograms(t)
	const withDigests = "linux-image-6.12-cloud-amd64"
	for _, pkg := range []string{"linux-image-cloud-amd64", withDigests} {
		t.Run(pkg, func(t *testing.T) {
			if !offered(t, pkg) {
				t.Skipf("this Debian does not offer %s", pkg)
			}
			out := t.TempDir()
			g := image.Guest{Kernel: filepath.Join(root(t), "build", "image"), Package: pkg, Out: out, Init: guestScript, Files: maps.Clone(programs)}
			if pkg == withDigests {
				g.Modules = []string{"loop"}
				g.Files["verity.img"] = fileSystem(t)
			}
			if err := image.BuildGuest(t.Context(), g); err != nil {
				t.Fatal(err)
			}
			con := run(t, image.Machine{Dir: out, Memory: 768})
			con.wait(t, "guest: ended with", 0, 8*time.Minute)
			s := con.String()
			for line := range strings.Lines(s) {
				if strings.Contains(line, "_test.go") || strings.Contains(line, "--- ") {
					t.Log(strings.TrimSpace(line))
				}
			}
			if !strings.Contains(s, "guest: kernel tests ended with 0") || !strings.Contains(s, "guest: ended with 0") || !strings.Contains(s, "--- PASS: TestKernelIsAsked") || !strings.Contains(s, "--- PASS: TestInsideAndOutside") || strings.Contains(s, "--- SKIP") || pkg == withDigests && strings.Contains(s, "no digests") {
				t.Error("the tests failed in the guest")
			}
		})
	}
}
