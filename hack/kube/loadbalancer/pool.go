package loadbalancer

import (
	"fmt"
	"net/netip"
	"sync"
)

// Pool gives the addresses of an IPv4 range to owners, one to each. The lower half goes to those who ask for none in
// particular, so that in the upper half an address that is asked for is free.
type Pool struct {
	addresses netip.Prefix

	mu     sync.Mutex
	owners map[netip.Addr]string
	last   netip.Addr // given to one who asked for none in particular
}

// NewPool returns a pool of which no address is given away.
func NewPool(addresses netip.Prefix) (*Pool, error) {
	if !addresses.Addr().Is4() || addresses != addresses.Masked() || addresses.Bits() > 29 {
		return nil, fmt.Errorf("range %s: it should be an IPv4 prefix without host bits, of /29 or wider", addresses)
	}
	return &Pool{addresses: addresses, owners: map[netip.Addr]string{}, last: addresses.Addr()}, nil
}

// Assign returns the owner's address. It is the requested one, if that is valid. Else it is the one that the owner has,
// or a free one. Free ones are taken in turn: while the proxies still know the last owner of an address, a new one does
// not get it.
func (p *Pool) Assign(owner string, requested netip.Addr) (netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	has, ok := p.of(owner)
	switch {
	case requested.IsValid():
		if err := p.available(owner, requested); err != nil {
			return netip.Addr{}, err
		}
		delete(p.owners, has)
		p.owners[requested] = owner
		return requested, nil
	case ok:
		return has, nil
	}
	lower := netip.PrefixFrom(p.addresses.Addr(), p.addresses.Bits()+1)
	for a := p.last.Next(); ; a = a.Next() {
		if !lower.Contains(a) {
			a = lower.Addr().Next() // the first address names the network
		}
		if p.owners[a] == "" {
			p.owners[a], p.last = owner, a
			return a, nil
		}
		if a == p.last {
			return netip.Addr{}, fmt.Errorf("no address of %s is free", lower)
		}
	}
}

// available returns an error if the owner cannot have the address.
func (p *Pool) available(owner string, a netip.Addr) error {
	if !p.addresses.Contains(a) || a == p.addresses.Addr() || !p.addresses.Contains(a.Next()) {
		return fmt.Errorf("address %s: it should be in %s, and neither its first nor its last", a, p.addresses)
	}
	if now := p.owners[a]; now != "" && now != owner {
		return fmt.Errorf("address %s: it is in use", a)
	}
	return nil
}

// Of returns the owner's address.
func (p *Pool) Of(owner string) (netip.Addr, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.of(owner)
}

func (p *Pool) of(owner string) (netip.Addr, bool) {
	for a, o := range p.owners {
		if o == owner {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// Release takes the owner's address back, if it has one.
func (p *Pool) Release(owner string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a, ok := p.of(owner); ok {
		delete(p.owners, a)
	}
}
