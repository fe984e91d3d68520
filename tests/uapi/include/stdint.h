/* What linux/virtio_ring.h wants of the C library. */
#ifndef VDPASIM_STDINT_H
#define VDPASIM_STDINT_H

typedef __UINTPTR_TYPE__ uintptr_t;

#endif
