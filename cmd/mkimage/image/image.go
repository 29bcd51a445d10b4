package image

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// Options of a build.
type Options struct {
	Bin      string // folder of the router's binaries
	Trust    string // folder of the keys they are signed with
	Out      string // where vmlinuz and initramfs.gz go
	Packages string // folder where kernel packages are kept; default Out
	Config   string // configuration to put in; empty: none, the console says how to give one
	Kernel   string // Debian's package that depends on the kernel; empty: the newest for clouds
	Log      io.Writer
}

// programs go into the image's /bin.
var programs = []string{"godwitd", "godwit-router", "godwit-linecard", "godwit-bgp", "godwit", "gobgp"}

// Build makes vmlinuz and initramfs.gz.
func Build(ctx context.Context, o Options) error {
	tree, err := kernelPackage(ctx, o)
	if err != nil {
		return err
	}
	a := NewArchive()
	for _, dir := range []string{"proc", "sys", "dev", "run", "tmp", "var/lib/godwit", "root", "sys/fs/bpf"} {
		a.Dir(dir)
	}
	if err := addPrograms(a, o); err != nil {
		return err
	}
	if err := addModules(a, tree); err != nil {
		return err
	}
	if err := addSettings(a, o); err != nil {
		return err
	}
	if err := writeGzip(filepath.Join(o.Out, "initramfs.gz"), a); err != nil {
		return err
	}
	vmlinuz, err := one(filepath.Join(tree, "boot", "vmlinuz-*"))
	if err != nil {
		return err
	}
	if err := copyFile(filepath.Join(o.Out, "vmlinuz"), vmlinuz); err != nil {
		return err
	}
	fmt.Fprintf(o.Log, "image: %s and %s\n", filepath.Join(o.Out, "vmlinuz"), filepath.Join(o.Out, "initramfs.gz"))
	return nil
}

var kernelRE = regexp.MustCompile(`Depends: (linux-image-[0-9][^ \n]*)`)

// kernelPackage fetches and unpacks Debian's kernel without installing it; one that was fetched before is kept.
func kernelPackage(ctx context.Context, o Options) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-cache", "depends", cmp.Or(o.Kernel, "linux-image-cloud-amd64")).Output()
	if err != nil {
		return "", fmt.Errorf("ask for Debian's kernel (apt-get update may be needed): %w", err)
	}
	m := kernelRE.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("ask for Debian's kernel: no version in %q", out)
	}
	name := string(m[1])
	tree := filepath.Join(cmp.Or(o.Packages, o.Out), name)
	if err := os.MkdirAll(filepath.Dir(tree), 0o755); err != nil {
		return "", fmt.Errorf("fetch kernel: %w", err)
	}
	unlock, err := lock(tree + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(filepath.Join(tree, "boot")); err == nil {
		return tree, nil
	}
	fmt.Fprintf(o.Log, "image: fetching %s\n", name)
	tmp, err := os.MkdirTemp("", "godwit-kernel-")
	if err != nil {
		return "", fmt.Errorf("fetch kernel: %w", err)
	}
	defer os.RemoveAll(tmp)
	fetch := exec.CommandContext(ctx, "apt-get", "download", "-q", name)
	fetch.Dir = tmp
	if out, err := fetch.CombinedOutput(); err != nil {
		return "", fmt.Errorf("fetch kernel: %w: %s", err, out)
	}
	deb, err := one(filepath.Join(tmp, "*.deb"))
	if err != nil {
		return "", err
	}
	if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", deb, tree+".new").CombinedOutput(); err != nil {
		return "", fmt.Errorf("unpack kernel: %w: %s", err, out)
	}
	return tree, os.Rename(tree+".new", tree)
}

// lock keeps others who build images there waiting until it is released.
func lock(name string) (release func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return func() { _ = f.Close() }, nil
}

func one(pattern string) (string, error) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) != 1 {
		return "", fmt.Errorf("%d files match %s, want one", len(files), pattern)
	}
	return files[0], nil
}

func addPrograms(a *Archive, o Options) error {
	for name, from := range map[string]string{"init": filepath.Join(o.Bin, "godwit-init"), "bin/busybox": "/bin/busybox"} {
		data, err := os.ReadFile(from)
		if err != nil {
			return fmt.Errorf("add program: %w", err)
		}
		a.File(name, 0o755, data)
	}
	a.Link("bin/sh", "busybox")
	for _, p := range programs {
		data, err := os.ReadFile(filepath.Join(o.Bin, p))
		if err != nil {
			return fmt.Errorf("add program: %w", err)
		}
		a.File("bin/"+p, 0o755, data)
	}
	return nil
}

// addModules puts the modules into /modules, and the order into /modules/order.
func addModules(a *Archive, tree string) error {
	files, err := modules(filepath.Join(tree, "lib", "modules"), kernelModules)
	if err != nil {
		return err
	}
	var order strings.Builder
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return fmt.Errorf("add kernel module: %w", err)
		}
		a.File("modules/"+filepath.Base(f), 0o644, data)
		order.WriteString(filepath.Base(f) + "\n")
	}
	a.File("modules/order", 0o644, []byte(order.String()))
	return nil
}

func addSettings(a *Archive, o Options) error {
	keys, err := filepath.Glob(filepath.Join(o.Trust, "*"))
	if err != nil || len(keys) == 0 {
		return fmt.Errorf("no keys in %s", o.Trust)
	}
	for _, k := range keys {
		data, err := os.ReadFile(k)
		if err != nil {
			return fmt.Errorf("add key: %w", err)
		}
		a.File("etc/godwit/trust/"+filepath.Base(k), 0o644, data)
	}
	if o.Config == "" {
		return nil
	}
	return AddConfig(a, o.Config)
}

// AddConfig puts a configuration file where the image looks for it.
func AddConfig(a *Archive, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("add configuration: %w", err)
	}
	a.File("etc/godwit/config.yaml", 0o600, data)
	return nil
}

func writeGzip(name string, a *Archive) error {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed) // boots are many, and the emulated machine unpacks it
	if err != nil {
		return err
	}
	if _, err := a.WriteTo(z); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return replace(name, b.Bytes())
}

// replace writes a file as a whole: a machine that boots from the old one goes on with that.
func replace(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func copyFile(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return replace(to, data)
}
