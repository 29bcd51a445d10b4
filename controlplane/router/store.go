package router

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"godwit/controlplane/config"
)

// store keeps the configuration in force: STATE/running.yaml, readable by its
// owner only (it holds passwords).
type store struct{ dir string }

func (s store) path() string { return filepath.Join(s.dir, "running.yaml") }

// load reads the configuration to start with: the given file, else the one
// that was in force, else an empty one. saved tells that it is the stored one.
func (s store) load(file string) (c *config.Config, saved bool, err error) {
	if file != "" {
		c, err = config.Load(file)
		return c, false, err
	}
	c, err = config.Load(s.path())
	if errors.Is(err, fs.ErrNotExist) {
		c, err = config.Parse("empty configuration", nil)
		return c, false, err
	}
	return c, true, err
}

// save replaces the stored configuration: after a crash there is the old or
// the new one, whole.
func (s store) save(c *config.Config) (err error) {
	text, err := config.Marshal(c)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return fmt.Errorf("save configuration: %w", err)
	}
	f, err := os.CreateTemp(s.dir, ".running-*.yaml") // mode 0600
	if err != nil {
		return fmt.Errorf("save configuration: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("save configuration: %w", errors.Join(err, os.Remove(f.Name())))
		}
	}()
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), s.path()); err != nil {
		return err
	}
	return syncDir(s.dir)
}

// startMark names the supervisor under which a routing engine has started.
const startMark = "router.parent"

// restarted tells whether a routing engine has started under this supervisor
// before: then the configuration that was in force comes before the file to
// start with. parent is the supervisor's process; 0: none.
func restarted(runDir string, parent int) bool {
	text, err := os.ReadFile(filepath.Join(runDir, startMark))
	return err == nil && parent != 0 && string(text) == strconv.Itoa(parent)
}

func markStart(runDir string, parent int) error {
	if err := os.WriteFile(filepath.Join(runDir, startMark), []byte(strconv.Itoa(parent)), 0o600); err != nil {
		return fmt.Errorf("mark start: %w", err)
	}
	return nil
}

func unmarkStart(runDir string) error {
	err := os.Remove(filepath.Join(runDir, startMark))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
