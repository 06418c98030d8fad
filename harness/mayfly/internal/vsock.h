// The host's side of vsock with the kernel's vhost_vsock: an address for a guest, and streams between both.
//
//   GuestVsock vsock = ReserveVsock(0);           // the VMM gets vsock.vhost and vsock.cid
//   UniqueFd stream = ConnectToGuest(vsock.cid, 5000, deadline);
//   UniqueFd listener = ListenForGuests(5001);
#pragma once

#include <mayfly/deadline.h>
#include <mayfly/internal/unique_fd.h>

#include <cstdint>

namespace mayfly::internal {

struct GuestVsock {
  uint32_t cid = 0;
  UniqueFd vhost{};  // of /dev/vhost-vsock; the address is this guest's until its last copy is closed
};

// An address for one guest: `wanted`, or with 0 one that is free. Throws HostLacks.
GuestVsock ReserveVsock(uint32_t wanted);

// A connected stream. Throws GuestFailed when nobody listens there, Timeout.
UniqueFd ConnectToGuest(uint32_t cid, uint32_t port, Duration patience);

// A listening socket for all guests of this host that connect to this port of it. Throws HostLacks when it is taken.
UniqueFd ListenForGuests(uint32_t port);

}  // namespace mayfly::internal
