package elfsig

import (
	"fmt"
	"math/bits"
	"strings"
)

// Caps is a set of Linux capabilities: bit n is capability number n.
type Caps uint64

// capNames are the capabilities in the order of their numbers (capabilities(7)).
var capNames = [...]string{
	"chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
	"linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner",
	"sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice",
	"sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap",
	"mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf",
	"checkpoint_restore",
}

// ParseCaps reads a comma-separated list: "net_admin,net_raw,bpf". "cap_" may
// precede a name; case does not matter.
func ParseCaps(s string) (Caps, error) {
	var c Caps
	for word := range strings.SplitSeq(s, ",") {
		word = strings.TrimPrefix(strings.ToLower(strings.TrimSpace(word)), "cap_")
		if word == "" {
			continue
		}
		n := capNumber(word)
		if n < 0 {
			return 0, fmt.Errorf("capability %q: unknown (see capabilities(7))", word)
		}
		c |= 1 << n
	}
	return c, nil
}

func capNumber(name string) int {
	for i, n := range capNames {
		if n == name {
			return i
		}
	}
	return -1
}

// String prints the list that ParseCaps reads; unknown bits print as numbers.
func (c Caps) String() string {
	var words []string
	for v := uint64(c); v != 0; v &= v - 1 {
		n := bits.TrailingZeros64(v)
		if n < len(capNames) {
			words = append(words, capNames[n])
		} else {
			words = append(words, fmt.Sprintf("%d", n))
		}
	}
	return strings.Join(words, ",")
}
