/*
 * What the installed kernel headers may lack, declared by hand: interfaces younger than 6.1, the live-update series, and
 * both sizes of the block device's config space. Included behind the installed headers; the guards leave it to them
 * whatever they have.
 */

#ifndef VHOST_NEW_WORKER
struct vhost_worker_state {
	unsigned int worker_id;
};

struct vhost_vring_worker {
	unsigned int index;
	unsigned int worker_id;
};

#define VHOST_NEW_WORKER _IOR(VHOST_VIRTIO, 8, struct vhost_worker_state)
#define VHOST_FREE_WORKER _IOW(VHOST_VIRTIO, 9, struct vhost_worker_state)
#define VHOST_ATTACH_VRING_WORKER _IOW(VHOST_VIRTIO, 21, struct vhost_vring_worker)
#define VHOST_GET_VRING_WORKER _IOWR(VHOST_VIRTIO, 22, struct vhost_vring_worker)
#endif

#ifndef VHOST_GET_FEATURES_ARRAY
struct vhost_features_array {
	__u64 count;
	__u64 features[];
};

#define VHOST_GET_FEATURES_ARRAY _IOR(VHOST_VIRTIO, 131, struct vhost_features_array)
#define VHOST_SET_FEATURES_ARRAY _IOW(VHOST_VIRTIO, 131, struct vhost_features_array)
#endif

#ifndef VHOST_SET_FORK_FROM_OWNER
#define VHOST_FORK_OWNER_KTHREAD 0
#define VHOST_FORK_OWNER_TASK 1
#define VHOST_SET_FORK_FROM_OWNER _IOW(VHOST_VIRTIO, 132, __u8)
#define VHOST_GET_FORK_FROM_OWNER _IOR(VHOST_VIRTIO, 133, __u8)
#endif

#ifndef VHOST_VDPA_RESUME
#define VHOST_VDPA_RESUME _IO(VHOST_VIRTIO, 126)
#endif
#ifndef VHOST_VDPA_GET_VRING_DESC_GROUP
#define VHOST_VDPA_GET_VRING_DESC_GROUP _IOWR(VHOST_VIRTIO, 127, struct vhost_vring_state)
#endif
#ifndef VHOST_VDPA_GET_VRING_SIZE
#define VHOST_VDPA_GET_VRING_SIZE _IOWR(VHOST_VIRTIO, 130, struct vhost_vring_state)
#endif

#ifndef VHOST_BACKEND_F_RESUME
#define VHOST_BACKEND_F_RESUME 5
#endif
#ifndef VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK
#define VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK 6
#endif
#ifndef VHOST_BACKEND_F_DESC_ASID
#define VHOST_BACKEND_F_DESC_ASID 7
#endif
#ifndef VHOST_BACKEND_F_IOTLB_PERSIST
#define VHOST_BACKEND_F_IOTLB_PERSIST 8
#endif

/* The live-update series of 2024, which no header has. */
#define VHOST_NEW_OWNER _IO(VHOST_VIRTIO, 39)
#define VHOST_BACKEND_F_NEW_OWNER 9
#define VHOST_BACKEND_F_IOTLB_REMAP 10
#define VHOST_IOTLB_REMAP 7

#ifndef VIRTIO_F_NOTIFICATION_DATA
#define VIRTIO_F_NOTIFICATION_DATA 38
#endif
#ifndef VIRTIO_F_NOTIF_CONFIG_DATA
#define VIRTIO_F_NOTIF_CONFIG_DATA 39
#endif
#ifndef VIRTIO_F_ADMIN_VQ
#define VIRTIO_F_ADMIN_VQ 41
#endif

#ifndef VIRTIO_NET_F_DEVICE_STATS
#define VIRTIO_NET_F_DEVICE_STATS 50
#endif
#ifndef VIRTIO_NET_F_VQ_NOTF_COAL
#define VIRTIO_NET_F_VQ_NOTF_COAL 52
#endif
#ifndef VIRTIO_NET_F_GUEST_USO4
#define VIRTIO_NET_F_GUEST_USO4 54
#define VIRTIO_NET_F_GUEST_USO6 55
#define VIRTIO_NET_F_HOST_USO 56
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif
#ifndef VIRTIO_NET_F_GUEST_HDRLEN
#define VIRTIO_NET_F_GUEST_HDRLEN 59
#endif
#ifndef VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO
#define VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO 65
#define VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO_CSUM 66
#define VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO 67
#define VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO_CSUM 68
#endif

#ifndef VIRTIO_BLK_F_ZONED
#define VIRTIO_BLK_F_ZONED 17
struct virtio_blk_zoned_characteristics {
	__u32 zone_sectors, max_open_zones, max_active_zones, max_append_sectors, write_granularity;
	__u8 model, unused2[3];
};
#endif

/* The installed one is called installed_virtio_blk_config while the headers are read. */
#define CONFIG_MEMBERS \
	__u64 capacity; \
	__u32 size_max, seg_max; \
	struct virtio_blk_geometry geometry; \
	__u32 blk_size; \
	__u8 physical_block_exp, alignment_offset; \
	__u16 min_io_size; \
	__u32 opt_io_size; \
	__u8 wce, unused; \
	__u16 num_queues; \
	__u32 max_discard_sectors, max_discard_seg, discard_sector_alignment; \
	__u32 max_write_zeroes_sectors, max_write_zeroes_seg; \
	__u8 write_zeroes_may_unmap, unused1[3]; \
	__u32 max_secure_erase_sectors, max_secure_erase_seg, secure_erase_sector_alignment;

struct virtio_blk_config_72 {
	CONFIG_MEMBERS
} __attribute__((packed));

struct virtio_blk_config {
	CONFIG_MEMBERS
	struct virtio_blk_zoned_characteristics zoned;
} __attribute__((packed));
