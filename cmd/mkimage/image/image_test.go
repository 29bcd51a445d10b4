package image

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
