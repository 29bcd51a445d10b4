// Package guard holds what an interface does to packets beside forwarding them: an access list, a check
// of sources (unicast RPF, RFC 3704) and a policer. Package ip asks it, on the workers.
//
// A Policy is shared by all workers. Its rules do not change; its counters and buckets are atomic, so that
// a packet costs no lock and no allocation, and a policer's rate holds for all workers together.
package guard
