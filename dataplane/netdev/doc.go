// Package netdev looks after the network devices behind ports, whatever moves
// their frames: link state and its changes, settings that a captured device
// needs, and the counters that all kinds of ports share.
//
// Everything works in the network namespace of the calling thread, except what
// holds a socket (Watcher, Hold), which stays in the namespace it was made in.
package netdev
