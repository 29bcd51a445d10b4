package image

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// kernelModules are what the appliance and its guests' tests need; what they
// depend on comes along.
var kernelModules = []string{"virtio_pci", "virtio_net", "tun", "veth", "tipc", "tipc_diag", "8021q", "vrf", "dummy", "virtio-rng",
	"gcm", "ctr", "ghash-generic", "aesni-intel"} // AES-GCM, with which TIPC encrypts

// modules finds the modules below a kernel's folder in the order in which they
// must be loaded.
func modules(dir string, want []string) ([]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(p), ".ko"); ok {
			files[normal(name)] = p
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list kernel modules: %w", err)
	}
	var order []string
	done := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		name = normal(name)
		if done[name] || files[name] == "" {
			return nil // built in, or this kernel has none
		}
		done[name] = true
		needs, err := depends(files[name])
		if err != nil {
			return err
		}
		for _, n := range needs {
			if err := add(n); err != nil {
				return err
			}
		}
		order = append(order, files[name])
		return nil
	}
	for _, name := range want {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return order, nil
}

func normal(name string) string { return strings.ReplaceAll(name, "-", "_") }

// depends reads what a module says it needs (its .modinfo section).
func depends(file string) ([]string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read kernel module: %w", err)
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("read kernel module %s: %w", file, err)
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, fmt.Errorf("kernel module %s says nothing of itself", file)
	}
	info, err := s.Data()
	if err != nil {
		return nil, fmt.Errorf("read kernel module %s: %w", file, err)
	}
	for _, field := range strings.Split(string(info), "\x00") {
		if list, ok := strings.CutPrefix(field, "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
