package module

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"godwit/security/cgroup"
	"godwit/security/lsm"
)

// With guestEnv the fixtures' modules run in a group in which the kernel
// enforces, and the programs lie in the folder that childrenEnv names: a guest
// has no compiler.
const (
	guestEnv    = "GODWIT_LSM_GUEST"
	childrenEnv = "GODWIT_TEST_CHILDREN"
)

// enforced is the policy, inside the group under it; both nil without guestEnv.
var (
	enforced *lsm.Enforcer
	inside   *cgroup.Group
)

// enforce puts the policy in force for as long as the guest runs.
func enforce() error {
	if os.Getenv(guestEnv) == "" {
		return nil
	}
	const name = "godwit-moduletest"
	group, err := cgroup.Make(name)
	if err != nil {
		return err
	}
	if enforced, err = lsm.Start(group, name); err != nil {
		return err
	}
	inside, err = group.Child("modules", cgroup.Limits{})
	return err
}

// admit tells the kernel of a verified image, as the supervisor does.
func admit(image *os.File) error {
	if enforced == nil {
		return nil
	}
	return enforced.Allow(image)
}

// start starts an image where the kernel enforces, if it does.
func (f *fixture) start(img *Image, opt Options) (*Process, error) {
	f.t.Helper()
	if inside != nil {
		opt.Cgroup = inside.Path
	}
	return f.loader.Start(img, opt)
}

// An image of which the kernel was not told does not run, whoever verified it.
func TestKernelIsAsked(t *testing.T) {
	if enforced == nil {
		t.Skip("the kernel's part is tried in a guest")
	}
	f := newFixture(t)
	path := f.install("m", childProgram, header())
	silent := New(Config{Trust: f.path("trust"), Now: func() time.Time { return f.now }})
	defer silent.Close()
	img, err := silent.Verify(path, "bgp")
	f.must(err)
	defer img.Close()
	if _, err := silent.Start(img, Options{Cgroup: inside.Path}); !errors.Is(err, unix.EPERM) {
		t.Errorf("started without the kernel's knowledge: %v", err)
	}
	if out, end := f.run(f.verify(path), Options{}); out != "build 1\n" || end != "exit status 0" {
		t.Errorf("%q, %s", out, end)
	}
}
