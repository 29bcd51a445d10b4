// Package wire holds the messages that the router's processes exchange over
// the bus. Control messages are JSON, decoded strictly; what moves by the
// hundred thousand (FIB and route batches) has a compact binary form, fixed by
// golden bytes in testdata.
package wire

import "fmt"

// Kind tells what a message's body holds.
type Kind uint16

// The kinds of messages. "→" a request (answered by Error or a body of the
// same kind), "»" a message without an answer.
const (
	Error Kind = 1 // reply: ErrorBody

	// Any module, from the routing engine.
	GetEvents   Kind = 10 // → event.Stats
	GetModule   Kind = 11 // → ModuleInfo
	GetTrace    Kind = 12 // → TraceList: the last events
	ClearEvents Kind = 13 // → event figures to zero; reply empty object

	// Routing engine to supervisor.
	SetModules  Kind = 20 // → SetModulesBody: the modules that shall run; reply empty object
	GetModules  Kind = 21 // → ModuleList
	GetNames    Kind = 22 // → NameList: the bus name table
	ModuleEvent Kind = 23 // » supervisor to routing engine: ModuleStatus on each change
	GetSecurity Kind = 24 // → SecurityStatus
	GetAudit    Kind = 25 // → AuditQuery, AuditList
	Upgrade     Kind = 26 // → UpgradeBody; UpgradeReply when its file was verified, before the module ends

	// Routing engine to line card.
	SetCard       Kind = 40 // → CardConfig: the whole desired state; reply CardResult
	FIBBatch      Kind = 41 // » binary fib.Batch
	FIBAck        Kind = 42 // » line card to routing engine: FIBAckBody
	PortEvent     Kind = 43 // » line card to routing engine: PortStatus on each change
	GetPorts      Kind = 44 // → PortList
	GetNeighbors  Kind = 45 // → NeighborQuery, NeighborList
	GetFIB        Kind = 46 // → FIBQuery, FIBList
	GetDrops      Kind = 47 // → DropList
	GetFIBStats   Kind = 48 // → FIBStats
	StartCapture  Kind = 49 // → CaptureRequest, then CaptureFrame messages
	StopCapture   Kind = 50 // → CaptureRequest
	CaptureFrame  Kind = 51 // » binary: 8 bytes nanoseconds since 1970, 4 bytes original length, 1 byte direction (0 in, 1 out), frame; big endian
	ClearNeighbor Kind = 52 // → NeighborQuery
	TraceFIB      Kind = 53 // → TraceQuery, TraceResult
	BFDEvent      Kind = 54 // » line card to routing engine: BFDStatus on each change, and of all sessions at first
	GetBFD        Kind = 55 // → BFDList
	SetFIBSource  Kind = 56 // → FIBSourceBody: where multicasts of changes come from; reply FIBSourceResult
	FIBRef        Kind = 57 // » binary FIBRefBody: a batch whose changes come by multicast
	FIBFetch      Kind = 58 // » line card to routing engine: FIBFetchBody

	// More of routing engine to line card.
	GetSampling Kind = 80 // → SamplingStatus
	GetMirrors  Kind = 81 // → MirrorList
	GetGuards   Kind = 82 // → GuardList

	// Routing engine and BGP speaker.
	SetSpeaker   Kind = 60 // → SpeakerConfig: the whole desired state
	RouteBatch   Kind = 61 // » speaker to routing engine: binary, see RouteChange
	RouteAck     Kind = 62 // » routing engine to speaker: RouteAckBody
	RoutesSynced Kind = 63 // » speaker to routing engine: all peers' initial tables are in (end of RIB) or given up
	PeerEvent    Kind = 64 // » speaker to routing engine: PeerStatus on each change
	GetPeers     Kind = 65 // → PeerList
	Redistribute Kind = 66 // » routing engine to speaker: RedistBody
	ResetPeer    Kind = 67 // → PeerReset
	ResendRoutes Kind = 68 // » routing engine to speaker: send all routes once more
	FIBState     Kind = 69 // » routing engine to speaker: FIBStateBody
)

var kindNames = map[Kind]string{
	Error: "error", GetEvents: "get-events", GetModule: "get-module", GetTrace: "get-trace", ClearEvents: "clear-events",
	SetModules: "set-modules", GetModules: "get-modules", GetNames: "get-names", ModuleEvent: "module-event",
	GetSecurity: "get-security", GetAudit: "get-audit", Upgrade: "upgrade",
	SetCard: "set-card", FIBBatch: "fib-batch", FIBAck: "fib-ack", PortEvent: "port-event", GetPorts: "get-ports",
	GetNeighbors: "get-neighbors", GetFIB: "get-fib", GetDrops: "get-drops", GetFIBStats: "get-fib-stats",
	StartCapture: "start-capture", StopCapture: "stop-capture", CaptureFrame: "capture-frame", ClearNeighbor: "clear-neighbor",
	TraceFIB: "trace-fib", BFDEvent: "bfd-event", GetBFD: "get-bfd",
	SetFIBSource: "set-fib-source", FIBRef: "fib-ref", FIBFetch: "fib-fetch",
	GetSampling: "get-sampling", GetMirrors: "get-mirrors", GetGuards: "get-guards",
	SetSpeaker: "set-speaker", RouteBatch: "route-batch", RouteAck: "route-ack", RoutesSynced: "routes-synced",
	PeerEvent: "peer-event", GetPeers: "get-peers", Redistribute: "redistribute", ResetPeer: "reset-peer",
	ResendRoutes: "resend-routes", FIBState: "fib-state",
}

func (k Kind) String() string {
	if s, ok := kindNames[k]; ok {
		return s
	}
	return fmt.Sprintf("kind(%d)", uint16(k))
}
