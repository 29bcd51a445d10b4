package supervisor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"godwit/cluster/session"
	"godwit/cluster/wire"
)

// answerTime is for the answer to arrive: the module may be the one that passes it on.
const answerTime = 250 * time.Millisecond

// upgrade starts a module again from its file, or from another one that takes its place: verified
// before anything is changed, one module at a time.
func (s *Supervisor) upgrade(c *session.Session, m session.Message) error {
	var body wire.UpgradeBody
	if err := wire.DecodeKind(m.Kind, m.Body, &body); err != nil {
		return c.ReplyError(m, err)
	}
	e, err := s.upgradable(body)
	if err != nil {
		return c.ReplyError(m, fmt.Errorf("upgrade %s: %w", body.Module, err))
	}
	s.upgrading = body.Module
	role := e.spec.Role
	var reply wire.UpgradeReply
	s.work.Async(func() (err error) {
		reply, err = s.install(role, body.File)
		return err
	}, func(err error) {
		if err == nil && s.core.modules[body.Module] == nil {
			err = errors.New("it is not wanted any more")
		}
		_, there := s.sessions[c]
		if err != nil {
			s.upgrading = ""
			s.cfg.Log.Warn("upgrade refused", "module", body.Module, "file", body.File, "error", err)
			if there {
				s.answered(c, m, c.ReplyError(m, fmt.Errorf("upgrade %s: %w", body.Module, err)))
			}
			return
		}
		s.cfg.Log.Info("upgrade", "module", body.Module, "version", reply.Version, "build", reply.BuildID, "key", reply.KeyID)
		if there {
			s.answered(c, m, c.Reply(m, m.Kind, reply))
		}
		s.work.After(answerTime, func() {
			s.upgrading = ""
			s.in.upgrade.Do(evUpgrade{body.Module})
		})
	})
	return nil
}

// upgradable finds the module that an upgrade is for.
func (s *Supervisor) upgradable(body wire.UpgradeBody) (*entry, error) {
	e := s.core.modules[body.Module]
	switch {
	case s.core.down:
		return nil, errors.New("the router is shutting down")
	case e == nil || !e.want:
		return nil, errors.New("no such module runs here")
	case s.upgrading != "":
		return nil, fmt.Errorf("%s is being upgraded: one after the other", s.upgrading)
	case e.status.State == stateStarting || e.status.State == stateStopping:
		return nil, fmt.Errorf("it is %s: try again when it runs", e.status.State)
	case body.File != "" && !filepath.IsAbs(body.File):
		return nil, fmt.Errorf("file %q: want an absolute path", body.File)
	}
	return e, nil
}

// install verifies a file for a role and puts it where modules of the role are started from; the
// file there before stays beside it, as FILE.old. Without a file it verifies what is there.
func (s *Supervisor) install(role, file string) (wire.UpgradeReply, error) {
	path := s.path(role)
	if file == "" || file == path {
		return s.verified(path, role)
	}
	fresh := path + ".new"
	if err := copyFile(fresh, file); err != nil {
		return wire.UpgradeReply{}, errors.Join(err, removeIfThere(fresh))
	}
	reply, err := s.verified(fresh, role) // the copy: nobody else writes it
	if err == nil {
		err = replaceFile(path, fresh)
	}
	if err != nil {
		return reply, errors.Join(err, removeIfThere(fresh))
	}
	return reply, nil
}

func (s *Supervisor) verified(path, role string) (wire.UpgradeReply, error) {
	img, err := s.loader.Verify(path, role)
	if err != nil {
		return wire.UpgradeReply{}, err
	}
	r := wire.UpgradeReply{Version: img.Signed.Version, BuildID: img.Signed.BuildID, KeyID: img.Signed.KeyID.String()}
	return r, img.Close()
}

// moduleMost bounds what is copied, bytes.
const moduleMost = 1 << 30

func copyFile(to, from string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("install module: %w", err)
	}
	defer in.Close()
	if st, err := in.Stat(); err != nil || !st.Mode().IsRegular() || st.Size() > moduleMost {
		return errors.Join(fmt.Errorf("install module: %s is no regular file of at most %d bytes", from, moduleMost), err)
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return fmt.Errorf("install module: %w", err)
	}
	if _, err = io.Copy(out, io.LimitReader(in, moduleMost)); err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("install module: %w", err)
	}
	return nil
}

// replaceFile puts the new file into the place of the old one, in one step.
func replaceFile(path, fresh string) error {
	old := path + ".old"
	if err := removeIfThere(old); err != nil {
		return fmt.Errorf("install module: %w", err)
	}
	if err := os.Link(path, old); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("install module: keep the old one: %w", err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return fmt.Errorf("install module: %w", err)
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
