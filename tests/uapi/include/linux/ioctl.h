/* The bit layout of ioctl numbers, for a target whose asm/ioctl.h is not installed. */
#ifndef VDPASIM_IOCTL_H
#define VDPASIM_IOCTL_H

#if defined(__powerpc__) || defined(__powerpc64__)
#define VDPASIM_DIR 29
#define VDPASIM_NONE 1u
#define VDPASIM_FROM_KERNEL 2u
#define VDPASIM_TO_KERNEL 4u
#else
#define VDPASIM_DIR 30
#define VDPASIM_NONE 0u
#define VDPASIM_FROM_KERNEL 2u
#define VDPASIM_TO_KERNEL 1u
#endif

#define VDPASIM_REQUEST(dir, type, nr, size) \
	((unsigned int)(((dir) << VDPASIM_DIR) + ((unsigned int)(size) << 16) + ((type) << 8) + (nr)))

#define _IO(type, nr) VDPASIM_REQUEST(VDPASIM_NONE, type, nr, 0)
#define _IOR(type, nr, arg) VDPASIM_REQUEST(VDPASIM_FROM_KERNEL, type, nr, sizeof(arg))
#define _IOW(type, nr, arg) VDPASIM_REQUEST(VDPASIM_TO_KERNEL, type, nr, sizeof(arg))
#define _IOWR(type, nr, arg) VDPASIM_REQUEST(VDPASIM_FROM_KERNEL | VDPASIM_TO_KERNEL, type, nr, sizeof(arg))

#endif
