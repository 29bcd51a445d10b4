package supervisor

import (
	"fmt"
	"path/filepath"
	"strings"

	"godwit/cluster/wire"
)

// maxModules bounds a SetModules: two speakers for each of 4,095 VRFs.
const maxModules = 8192

// checkSpecs refuses a set of modules that the core must not see.
func checkSpecs(specs []wire.ModuleSpec) error {
	if len(specs) > maxModules {
		return fmt.Errorf("set modules: %d modules, at most %d", len(specs), maxModules)
	}
	seen := map[string]bool{}
	for _, s := range specs {
		if err := checkSpec(s); err != nil {
			return fmt.Errorf("set modules: %w", err)
		}
		if seen[s.Name] {
			return fmt.Errorf("set modules: module %q twice", s.Name)
		}
		seen[s.Name] = true
	}
	return nil
}

// checkSpec: the name becomes a file name and the role part of one.
func checkSpec(s wire.ModuleSpec) error {
	switch {
	case !word(s.Name, 64):
		return fmt.Errorf("module name %q: want 1 to 64 letters, digits, '-', '_' and '.'", s.Name)
	case !word(s.Role, 32):
		return fmt.Errorf("module %s: role %q: want 1 to 32 letters, digits, '-', '_' and '.'", s.Name, s.Role)
	case s.Name == RouterName || s.Role == RouterName:
		return fmt.Errorf("module %s: the routing engine is always running", s.Name)
	case s.NetNS != "" && !filepath.IsAbs(s.NetNS):
		return fmt.Errorf("module %s: network namespace %q: want an absolute path", s.Name, s.NetNS)
	}
	return nil
}

func word(s string, limit int) bool {
	if s == "" || len(s) > limit || s[0] == '.' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
}
