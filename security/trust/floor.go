package trust

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"godwit/security/elfsig"
)

// ErrRollback is returned for a version below the floor.
var ErrRollback = errors.New("older than the minimum version that has run")

// Floors keeps the oldest version of each module that may run, across restarts:
// the highest minimum version of all that ran. It is a file of lines "ROLE NAME
// VERSION". A file that cannot be understood refuses everything; a file that is
// not there is an empty one, so whoever may remove it may roll back.
type Floors struct {
	path string
	mu   sync.Mutex
}

// Floor is the oldest version of a module that may run.
type Floor struct {
	Role    string `json:"role"`
	Name    string `json:"name"`
	Version string `json:"version"`
}

// OpenFloors returns the floors in the file, which need not exist yet.
func OpenFloors(path string) *Floors { return &Floors{path: path} }

type floorKey struct{ role, name string }

func (f *Floors) read() (map[floorKey]string, error) {
	m := map[floorKey]string{}
	data, err := elfsig.ReadSmallFile(f.path, maxListFile)
	if errors.Is(err, os.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, fmt.Errorf("version floors: %w", err)
	}
	if m, err = parseFloors(data); err != nil {
		return nil, fmt.Errorf("version floors: %s:%w", f.path, err)
	}
	return m, nil
}

func parseFloors(data []byte) (map[floorKey]string, error) {
	m := map[floorKey]string{}
	err := lines(data, func(w []string) error {
		if len(w) != 3 {
			return errors.New("want a role, a name and a version")
		}
		if err := elfsig.CheckVersion(w[2]); err != nil {
			return err
		}
		if _, twice := m[floorKey{w[0], w[1]}]; twice {
			return fmt.Errorf("%s %s twice", w[0], w[1])
		}
		m[floorKey{w[0], w[1]}] = w[2]
		return nil
	})
	return m, err
}

// Check tells whether a version may run.
func (f *Floors) Check(role, name, version string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	m, err := f.read()
	if err != nil {
		return err
	}
	floor, ok := m[floorKey{role, name}]
	if ok && elfsig.CompareVersions(version, floor) < 0 {
		return fmt.Errorf("%s version %s: %w: %s", name, version, ErrRollback, floor)
	}
	return nil
}

// Raise lifts a floor to a version, on disk when it returns; it never lowers one.
func (f *Floors) Raise(role, name, version string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	m, err := f.read()
	if err != nil {
		return err
	}
	k := floorKey{role, name}
	if old, ok := m[k]; ok && elfsig.CompareVersions(version, old) <= 0 {
		return nil
	}
	m[k] = version
	var b strings.Builder
	b.WriteString("# oldest versions that may run: role, name, version; kept by the supervisor\n")
	for _, fl := range list(m) {
		fmt.Fprintf(&b, "%s %s %s\n", fl.Role, fl.Name, fl.Version)
	}
	if err := errors.Join(elfsig.ReplaceFile(f.path, []byte(b.String()), 0o600), syncDir(filepath.Dir(f.path))); err != nil {
		return fmt.Errorf("keep version floors: %w", err)
	}
	return nil
}

// List returns all floors.
func (f *Floors) List() ([]Floor, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m, err := f.read()
	return list(m), err
}

func list(m map[floorKey]string) []Floor {
	all := []Floor{}
	for k, v := range m {
		all = append(all, Floor{k.role, k.name, v})
	}
	slices.SortFunc(all, func(a, b Floor) int { return strings.Compare(a.Role+" "+a.Name, b.Role+" "+b.Name) })
	return all
}
