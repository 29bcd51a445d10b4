package image

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

func TestArchiveIsWhatCpioReads(t *testing.T) {
	a := NewArchive()
	a.File("etc/deep/file", 0o640, []byte("hello"))
	a.File("/init", 0o755, bytes.Repeat([]byte{7}, 1001))
	a.Link("bin/sh", "busybox")
	a.Dir("proc")
	var one, two bytes.Buffer
	for _, b := range []*bytes.Buffer{&one, &two} {
		if n, err := a.WriteTo(b); err != nil || n != int64(b.Len()) {
			t.Fatalf("%d of %d, %v", n, b.Len(), err)
		}
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("the same files gave different bytes")
	}
	dir := t.TempDir()
	cmd := exec.Command("cpio", "-idm", "--no-absolute-filenames")
	cmd.Dir, cmd.Stdin = dir, &one
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "etc/deep/file")); err != nil || string(data) != "hello" {
		t.Errorf("%q, %v", data, err)
	}
	if st, err := os.Stat(filepath.Join(dir, "init")); err != nil || st.Mode().Perm() != 0o755 || st.Size() != 1001 {
		t.Errorf("%v, %v", st, err)
	}
	if to, err := os.Readlink(filepath.Join(dir, "bin/sh")); err != nil || to != "busybox" {
		t.Errorf("%s, %v", to, err)
	}
	if st, err := os.Stat(filepath.Join(dir, "proc")); err != nil || !st.IsDir() {
		t.Errorf("%v, %v", st, err)
	}
}

func TestMissingPiecesAreNamed(t *testing.T) {
	dir := t.TempDir()
	if _, err := modules(filepath.Join(dir, "none"), nil); err == nil || !strings.Contains(err.Error(), "none") {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bad.ko"), []byte("not ELF"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := modules(dir, []string{"bad"}); err == nil || !strings.Contains(err.Error(), "bad.ko") {
		t.Error(err)
	}
	if _, err := (Machine{Dir: dir, Config: filepath.Join(dir, "missing.yaml"), Work: dir}).Command(); err == nil {
		t.Error("a missing configuration was handed over")
	}
}

// TestBuildsBesideEachOther: several builds share a folder; who reads a file of it
// sees one whole.
func TestBuildsBesideEachOther(t *testing.T) {
	name := filepath.Join(t.TempDir(), "vmlinuz")
	whole := bytes.Repeat([]byte("godwit"), 100_000)
	const builders = 8
	ends := make(chan error, builders)
	var inside atomic.Int32
	build := func() error {
		for range 10 {
			release, err := lock(name + ".lock")
			if err != nil {
				return err
			}
			n := inside.Add(1)
			inside.Add(-1)
			release()
			if n != 1 {
				return fmt.Errorf("%d hold the lock", n)
			}
			if err := replace(name, whole); err != nil {
				return err
			}
			if data, err := os.ReadFile(name); err != nil || !bytes.Equal(data, whole) {
				return fmt.Errorf("%d bytes, %w", len(data), err)
			}
		}
		return nil
	}
	for range builders {
		go func() { ends <- build() }()
	}
	for range builders {
		if err := <-ends; err != nil {
			t.Error(err)
		}
	}
	left, err := os.ReadDir(filepath.Dir(name))
	if err != nil || len(left) != 2 {
		t.Errorf("left: %v, %v", left, err)
	}
	if err := replace(filepath.Join(name, "x"), nil); err == nil {
		t.Error("wrote into a file")
	}
}
