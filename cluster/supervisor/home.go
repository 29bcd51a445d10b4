package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"godwit/cluster/bus/local"
	"godwit/security/confine"
)

// settle gives the modules' users what they need of the run directory. Where
// they cannot reach it (it lies below somebody's home) modules stay root, which
// is logged, and shown.
func (s *Supervisor) settle() error {
	s.home = confine.Place{RunDir: s.cfg.RunDir, FirstUser: s.cfg.FirstUser}
	if s.cfg.NoConfine {
		s.cfg.Log.Error("UNCONFINED: modules run as root with all it may do; this is no way to run a router in service")
		s.home.FirstUser = 0
	}
	if os.Geteuid() != 0 {
		s.home.FirstUser = 0
	}
	if s.home.FirstUser == 0 {
		return nil
	}
	if dir := barrier(s.cfg.RunDir); dir != "" {
		s.cfg.Log.Warn("modules stay root: their users cannot pass a folder above the run directory", "folder", dir)
		s.home.FirstUser = 0
		return nil
	}
	// Others pass through to the management socket, which asks who they are.
	group := s.home.FirstUser
	if err := errors.Join(os.Chown(s.cfg.RunDir, -1, group), os.Chmod(s.cfg.RunDir, 0o751)); err != nil {
		return fmt.Errorf("give modules the run directory: %w", err)
	}
	for dir, role := range map[string]string{fabricDir: "linecard", bgpDir: "bgp"} {
		p, _ := confine.For(role, 0, s.home)
		if err := give(filepath.Join(s.cfg.RunDir, dir), p.UID, p.GID); err != nil {
			return fmt.Errorf("give modules the run directory: %w", err)
		}
	}
	if err := openTun(); err != nil {
		s.cfg.Log.Warn("line cards may not open host interfaces", "error", err)
	}
	return local.Share(s.cfg.RunDir, group)
}

// tun is the device that TAPs and TUNs are opened by. Distributions let
// everybody open it, since all that it does takes CAP_NET_ADMIN (the kernel's
// networking/tuntap.rst); without udev it belongs to root.
const tun = "/dev/net/tun"

func openTun() error {
	st, err := os.Stat(tun)
	if errors.Is(err, os.ErrNotExist) || err == nil && st.Mode().Perm()&0o006 == 0o006 {
		return nil
	}
	return errors.Join(err, os.Chmod(tun, 0o666))
}

// giveTo hands a file to the user of a role.
func (s *Supervisor) giveTo(role, path string) error {
	if p, _ := confine.For(role, 0, s.home); p.UID != 0 {
		return os.Chown(path, p.UID, p.GID)
	}
	return nil
}

// barrier is the first folder above dir that others may not pass; empty: none.
func barrier(dir string) string {
	for dir = filepath.Dir(dir); ; dir = filepath.Dir(dir) {
		var st unix.Stat_t
		if unix.Stat(dir, &st) != nil || st.Mode&0o001 == 0 {
			return dir
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
	}
}

// give changes the owner of a folder and of what an earlier module left there.
func give(dir string, uid, gid int) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	})
}
