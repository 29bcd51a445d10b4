// Package mgmt is the management API of the routing engine: HTTP and JSON over
// a unix socket, its output types, a server and the client that the CLI uses.
//
//	client ── HTTP over RUN/mgmt.sock ──▶ server ── Backend functions ──▶ routing engine
//
// Concurrency: the server calls Backend functions from many goroutines, one
// per request; each returns when its answer is complete or the context ends.
// A Client may be used from any goroutine.
//
// # Stability
//
// The JSON of the output types (`godwit show ... --json`) is stable: within a
// major version fields are added, never renamed, removed or given another
// meaning or unit. Readers must ignore fields that they do not know. Durations
// are nanoseconds in fields that end in _ns, times are RFC 3339, counters are
// unsigned and start at 0 with the process that counts. Lists are never null.
// Text output is for people and may change at any time.
//
// Long lists (routes, FIB, ping) are streamed as JSON lines: one object a line,
// so that the first lines can be read while the last ones are not made yet. On
// the socket a line is {"item": ...}; the last one is {"end": true}, with "error"
// where the list could not be completed, so that a cut connection is not taken
// for a short list. (--json prints the items.)
//
// # Endpoints
//
//	GET    /v1/version                                   Version
//	GET    /v1/modules                                   Modules
//	GET    /v1/interfaces?name=                          Interfaces
//	GET    /v1/vrfs                                      VRFs
//	GET    /v1/routes?vrf=&family=&address=&prefix=&longer=&protocol=&next-hop=&detail=   lines of Route
//	GET    /v1/fib?card=&vrf=&address=&prefix=           lines of FIBRoute
//	GET    /v1/fib/summary                               FIBSummary
//	GET    /v1/fib/consistency?card=                     FIBConsistency
//	GET    /v1/fib/trace?vrf=&address=&from=&protocol=&source-port=&port=&card=   FIBTraces
//	GET    /v1/neighbors?vrf=&interface=&address=        Neighbors
//	DELETE /v1/neighbors?vrf=&interface=&address=        Done
//	GET    /v1/bgp?vrf=                                  BGP
//	POST   /v1/bgp/reset?vrf=&address=&soft=             Done
//	GET    /v1/bus                                       Bus
//	GET    /v1/security                                  Security
//	GET    /v1/security/audit?count=&denied=             Audit
//	GET    /v1/events?module=                            Events
//	DELETE /v1/events?module=                            Done
//	GET    /v1/events/trace?module=                      Traces
//	GET    /v1/drops?card=                               Drops
//	GET    /v1/config                                    YAML
//	POST   /v1/check?name=                               YAML in; Applied
//	POST   /v1/apply?name=                               YAML in; Applied
//	POST   /v1/ping?vrf=&address=&count=&size=&interval=&timeout=&ttl=&df=   lines of PingLine
//	GET    /v1/capture?interface=&snap=&count=           pcap
//
// Errors are a status outside 2xx and an ErrorBody.
package mgmt
