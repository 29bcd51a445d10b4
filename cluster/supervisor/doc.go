// Package supervisor starts the router's modules, watches them and starts them
// again.
//
//	SetModules ─┐                              ┌─▶ verify and start (off the loop)
//	exits ──────┤                              ├─▶ signal
//	timers ─────┼─▶ core (pure, step by step) ─┼─▶ timer
//	start done ─┤   one state per module       ├─▶ ModuleEvent to sessions, log
//	signals ────┘                              └─▶ done
//
// The core takes events and returns effects; the Supervisor carries them out.
// Everything runs as events of one event.Loop; only verifying, starting and
// waiting for a child happen elsewhere.
//
//	state     leaves it when                              to
//	starting  the module runs                             running
//	          its file is refused (signature, role, …)    refused
//	          it cannot be started                        backoff
//	running   it ends                                     backoff
//	          it is to stop or to run otherwise           stopping
//	          its event loop is silent for 10 s (SIGQUIT) stopping, then backoff
//	backoff   100 ms, doubled each time up to 10 s        starting
//	refused   its file or the trust store changes, 30 s   starting
//	stopping  it ended (SIGTERM, after 5 s SIGKILL)       gone, or starting
//
// A module that ran for 10 s starts again after 100 ms. The routing engine
// always runs; on shutdown it is stopped when all others are gone, so that it
// can take down namespaces and host interfaces that nobody uses any more.
//
// In a cluster, the supervisor makes its machine a node before it starts any
// module, and leaves when all have ended. On a node for line cards there is no
// routing engine: the cards of its configuration run, and join the bus between
// nodes, over which the supervisor answers what is asked about them.
package supervisor
