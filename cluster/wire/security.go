package wire

import (
	"godwit/security/audit"
	"godwit/security/trust"
)

// SecurityStatus is the reply to GetSecurity: what decides which modules run.
type SecurityStatus struct {
	// Mode is "verified only" (the supervisor checks signatures; the kernel does
	// not enforce them), "enforced" (it does) or "permissive" (what would be
	// refused runs).
	Mode   string        `json:"mode"`
	Kernel string        `json:"kernel"` // what the kernel does, or why it does nothing
	Trust  TrustStatus   `json:"trust"`
	Floors []trust.Floor `json:"floors"` // oldest versions that may run
	Alarms []audit.Alarm `json:"alarms"`
	// Verdicts since the supervisor's start.
	Allowed    uint64 `json:"allowed"`
	Denied     uint64 `json:"denied"`     // or permitted
	Unconfined bool   `json:"unconfined"` // modules were told not to confine themselves
	// Confined says how the modules run, by name.
	Confined []Confinement `json:"confined"`
}

// TrustStatus is the trust store as a start would find it.
type TrustStatus struct {
	Directory   string     `json:"directory"`
	Root        string     `json:"root,omitempty"`    // id of the root key; empty: the store need not be signed
	Version     string     `json:"version,omitempty"` // signed by the root key
	Error       string     `json:"error,omitempty"`   // why there is no store: nothing starts
	Development bool       `json:"development"`       // development keys count
	Revocations int        `json:"revocations"`
	Keys        []TrustKey `json:"keys"`
}

// TrustKey is a key of the trust store.
type TrustKey struct {
	ID          string   `json:"id"`
	Label       string   `json:"label"`
	Roles       []string `json:"roles"` // empty: all
	Development bool     `json:"development"`
	Revoked     bool     `json:"revoked"`
}

// Confinement is how a module runs, as the kernel tells it.
type Confinement struct {
	Module       string `json:"module"`
	PID          int    `json:"pid"`
	UID          int    `json:"uid"`
	Capabilities string `json:"capabilities"` // that it has
	NoNewPrivs   bool   `json:"no_new_privs"`
	Seccomp      string `json:"seccomp"`                // "filter", "off"
	Memory       int64  `json:"memory_limit,omitempty"` // bytes; 0: none
	Tasks        int    `json:"task_limit,omitempty"`   // 0: none
	Error        string `json:"error,omitempty"`
}

// AuditQuery selects verdicts.
type AuditQuery struct {
	Count  int  `json:"count"`  // at most so many, the latest; 0: all that are kept
	Denied bool `json:"denied"` // only what was not allowed
}

// AuditList is the reply to GetAudit, oldest first.
type AuditList struct {
	Events []audit.Event `json:"events"`
}
