package wire

import (
	"time"

	"godwit/event"
)

// ErrorBody is the reply to a request that failed.
type ErrorBody struct {
	Error string `json:"error"`
}

// TraceList is the reply to GetTrace, oldest first.
type TraceList struct {
	Events []event.TraceEntry `json:"events"`
}

// ModuleInfo is what a module says of itself.
type ModuleInfo struct {
	Name    string    `json:"name"`    // "linecard-1"
	Role    string    `json:"role"`    // "router", "linecard", "bgp"
	Version string    `json:"version"` // semantic version
	BuildID string    `json:"build_id"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
}

// ModuleSpec is one module that the routing engine wants to run.
type ModuleSpec struct {
	Name  string   `json:"name"`            // unique: "bgp-red"
	Role  string   `json:"role"`            // must be the role signed into the binary
	NetNS string   `json:"netns,omitempty"` // path of the network namespace to start it in; empty: the supervisor's
	Args  []string `json:"args,omitempty"`
}

// SetModulesBody is the whole set of modules that shall run besides the
// routing engine. The supervisor starts what is missing, stops what is not
// listed, restarts what differs.
type SetModulesBody struct {
	Modules []ModuleSpec `json:"modules"`
}

// ModuleStatus is the supervisor's view of a module.
type ModuleStatus struct {
	Name     string    `json:"name"`
	Role     string    `json:"role"`
	State    string    `json:"state"` // "running", "starting", "backoff", "refused", "stopping", "stopped"
	PID      int       `json:"pid,omitempty"`
	Since    time.Time `json:"since"`
	Restarts int       `json:"restarts"`
	LastExit string    `json:"last_exit,omitempty"` // "signal: killed"
	Reason   string    `json:"reason,omitempty"`    // why refused, or in back-off
	Version  string    `json:"version,omitempty"`   // signed
	BuildID  string    `json:"build_id,omitempty"`  // signed
	KeyID    string    `json:"key_id,omitempty"`    // of the signer
	Verify   string    `json:"verify"`              // "enforced", "verified only", "off"
	Node     uint32    `json:"node,omitempty"`      // of the cluster, if it is another
}

// ModuleList is the reply to GetModules.
type ModuleList struct {
	Modules []ModuleStatus `json:"modules"`
}

// UpgradeBody asks the supervisor to start a module again, from its file or from another one that
// takes its place.
type UpgradeBody struct {
	Module string `json:"module"`
	File   string `json:"file,omitempty"` // absolute path on the router; empty: the installed one
}

// UpgradeReply is what the signature says of the file.
type UpgradeReply struct {
	Version string `json:"version"`
	BuildID string `json:"build_id"`
	KeyID   string `json:"key_id"`
}

// NameEntry is one binding of the bus name table.
type NameEntry struct {
	Type  uint32 `json:"type"`
	Lower uint32 `json:"lower"`
	Upper uint32 `json:"upper"`
	Ref   uint32 `json:"ref"`
	PID   int    `json:"pid,omitempty"`
	Name  string `json:"name,omitempty"`
	Node  uint32 `json:"node,omitempty"` // of the bus between nodes, which knows neither process nor name
}

// NameList is the reply to GetNames.
type NameList struct {
	Names []NameEntry `json:"names"`
}
