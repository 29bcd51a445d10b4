package image

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// Machine is a virtual machine that boots the image.
type Machine struct {
	Dir    string            // of vmlinuz and initramfs.gz
	Config string            // configuration handed over at boot; empty: what is in the image
	Memory int               // MiB; 0: 1024
	CPUs   int               // 0: 2
	Accel  string            // QEMU's accelerator; empty: software emulation
	NICs   []*os.File        // open TAPs, in the order of the guest's eth0, eth1, …
	Append string            // more words for the kernel's command line
	Work   string            // folder for the initramfs with the configuration
	Files  map[string]string // path in the guest → file here, handed over with the configuration; owner only
	// Monitor multiplexes QEMU's monitor with the console (Ctrl-A), for people.
	Monitor bool
}

// Command is the QEMU that runs the machine, with the console on its standard
// input and output. Software emulation is the default: a /dev/kvm that is there
// need not work (nested virtualisation).
func (m Machine) Command() (*exec.Cmd, error) {
	initramfs := filepath.Join(m.Dir, "initramfs.gz")
	if m.Config != "" {
		joined, err := m.withConfig(initramfs)
		if err != nil {
			return nil, err
		}
		initramfs = joined
	}
	accel := m.Accel
	if accel == "" {
		accel = "tcg,thread=multi"
	}
	serial := "stdio"
	if m.Monitor {
		serial = "mon:stdio"
	}
	args := []string{"-accel", accel, "-cpu", "max", "-nographic", "-no-reboot", "-nodefaults",
		"-serial", serial, "-m", strconv.Itoa(or(m.Memory, 1024)), "-smp", strconv.Itoa(or(m.CPUs, 2)),
		"-kernel", filepath.Join(m.Dir, "vmlinuz"), "-initrd", initramfs,
		"-append", "console=ttyS0 quiet panic=-1 net.ifnames=0 " + m.Append}
	for i := range m.NICs {
		// XDP needs the guest's receive offloads off, and a queue pair more than it has processors.
		args = append(args,
			"-netdev", fmt.Sprintf("tap,id=n%d,fd=%d", i, 3+i),
			"-device", fmt.Sprintf("virtio-net-pci,netdev=n%d,mac=52:54:00:00:00:%02x,csum=off,gso=off,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,host_tso4=off,host_tso6=off,romfile=", i, i+1))
	}
	cmd := exec.Command("qemu-system-x86_64", args...)
	cmd.ExtraFiles = m.NICs
	return cmd, nil
}

// withConfig writes the initramfs with one more archive behind it.
func (m Machine) withConfig(initramfs string) (string, error) {
	a := NewArchive()
	if err := AddConfig(a, m.Config); err != nil {
		return "", err
	}
	for to, from := range m.Files {
		data, err := os.ReadFile(from)
		if err != nil {
			return "", fmt.Errorf("add file: %w", err)
		}
		a.File(to, 0o600, data)
	}
	joined := filepath.Join(m.Work, "initramfs-config.gz")
	if err := copyFile(joined, initramfs); err != nil {
		return "", err
	}
	tail := joined + ".tail"
	if err := writeGzip(tail, a); err != nil {
		return "", err
	}
	defer os.Remove(tail)
	data, err := os.ReadFile(tail)
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(joined, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return "", err
	}
	if _, err := f.Write(data); err != nil {
		f.Close()
		return "", err
	}
	return joined, f.Close()
}

func or(v, d int) int {
	if v != 0 {
		return v
	}
	return d
}
