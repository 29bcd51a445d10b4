package linecard

import (
	"godwit/cluster/session"
)

type subscriber struct{ a *Agent }

func newSubscriber(a *Agent) *subscriber { return &subscriber{a} }

func (f *subscriber) batch(s *session.Session, body []byte) {}
func (f *subscriber) closed(s *session.Session)             {}
