"""Rules of vhost-vdpa (``drivers/vhost/vdpa.c``)."""

from __future__ import annotations

from vdpasim.core.rules import Rule, register
from vdpasim.uapi import errno as E

_IOCTL = "vdpa.c:vhost_vdpa_unlocked_ioctl()"
_VRING = "vdpa.c:vhost_vdpa_vring_ioctl()"
_MSG = "vdpa.c:vhost_vdpa_process_iotlb_msg()"
_UPDATE = "vdpa.c:vhost_vdpa_process_iotlb_update()"
_VA = "vdpa.c:vhost_vdpa_va_map()"
_PA = "vdpa.c:vhost_vdpa_pa_map()"
_BACKEND = "vdpa.c:vhost_vdpa_unlocked_ioctl()"
_MMAP = "vdpa.c:vhost_vdpa_mmap()"
_OURS = "vdpasim: core/series/live_update_fixed.py"
_SERIES = ("live-update-v1|live-update-v2|live-update-fixed",)
_POSTED = ("live-update-v1|live-update-v2",)
_FIXED = ("live-update-fixed",)

register(
    [
        Rule("vdpa.open.busy", "vdpa.c:vhost_vdpa_open()", E.EBUSY, "the device is open already, by anybody"),
        Rule("vdpa.status.clears", "vdpa.c:vhost_vdpa_set_status()", E.EINVAL, "a non-zero status lacks a bit that is set",
             "bits may only be added; 0 resets"),
        Rule("vdpa.config.range", "vdpa.c:vhost_vdpa_config_validate()", E.EINVAL, "len is 0, or off and len reach beyond the config space",
             "never E2BIG"),
        Rule("vdpa.features.busy", "vdpa.c:vhost_vdpa_set_features()", E.EBUSY, "SET_FEATURES after FEATURES_OK",
             "checked before the pointer is looked at"),
        Rule("vdpa.suspend.unsupported", "vdpa.c:vhost_vdpa_suspend()", E.EOPNOTSUPP, "the device cannot suspend"),
        Rule("vdpa.resume.unsupported", "vdpa.c:vhost_vdpa_resume()", E.EOPNOTSUPP, "the device cannot resume", switches=("resume",)),
        Rule("vdpa.suspend.not-running", "vdpa.c:vhost_vdpa_suspend()", 0, "SUSPEND or RESUME before DRIVER_OK succeeds and does nothing",
             switches=("suspend-needs-driver-ok",)),
        Rule("vdpa.log.unsupported", _IOCTL, E.ENOIOCTLCMD, "SET_LOG_BASE and SET_LOG_FD do not exist on vhost-vdpa",
             "for the owner and with bad pointers too"),
        Rule("vdpa.config-call.lost", "vdpa.c:vhost_vdpa_set_config_call()", 0, "a bad descriptor drops the old config eventfd", switches=("-F5",)),
        Rule("vdpa.backend.unknown", _BACKEND, E.EOPNOTSUPP, "a backend feature bit this kernel does not know, bit 0 included"),
        Rule("vdpa.backend.suspend", _BACKEND, E.EOPNOTSUPP, "SUSPEND acked but the device cannot"),
        Rule("vdpa.backend.resume", _BACKEND, E.EOPNOTSUPP, "RESUME acked but the device cannot", switches=("iotlb-persist",)),
        Rule("vdpa.backend.desc-asid", _BACKEND, E.EINVAL, "DESC_ASID without IOTLB_ASID", "before it is asked whether the device has descriptor groups", switches=("iotlb-persist",)),
        Rule("vdpa.backend.no-desc-group", _BACKEND, E.EOPNOTSUPP, "DESC_ASID acked but the device has no descriptor groups", switches=("iotlb-persist",)),
        Rule("vdpa.backend.persist", _BACKEND, E.EOPNOTSUPP, "IOTLB_PERSIST acked but the device's map does not persist", switches=("iotlb-persist",)),
        Rule("vdpa.group.unsupported", _VRING, E.EOPNOTSUPP, "the device has no queue groups"),
        Rule("vdpa.group.range", _VRING, E.EIO, "the device answers with a group it does not have"),
        Rule("vdpa.group.desc-unsupported", _VRING, E.EOPNOTSUPP, "the device has no descriptor groups", switches=("desc-asid",)),
        Rule("vdpa.group.asid-range", _VRING, E.EINVAL, "SET_GROUP_ASID: no such group or address space",
             "a group number that is no queue number either is ENOBUFS before"),
        Rule("vdpa.group.asid-busy", _VRING, E.EBUSY, "SET_GROUP_ASID under DRIVER_OK", switches=("group-asid-needs-stopped",)),
        Rule("vdpa.group.asid-unsupported", _VRING, E.EOPNOTSUPP, "the device has one address space only"),
        Rule("vdpa.vring.size-unsupported", _VRING, E.EOPNOTSUPP, "GET_VRING_SIZE: the device does not tell",
             "vdpa_sim tells only with batch_mapping=0", switches=("vring-size",)),
        Rule("vdpa.vring.num-max", _VRING, E.EINVAL, "SET_VRING_NUM above the device maximum", switches=("F4",)),
        Rule("vdpa.vring.running", _VRING, E.EINVAL, "SET_VRING_ADDR or SET_VRING_BASE under DRIVER_OK on a device that is not suspended",
             "the generic copy has been overwritten already", switches=("ring-needs-suspend",)),
        Rule("vdpa.mmap.size", _MMAP, E.EINVAL, "not exactly one page"),
        Rule("vdpa.mmap.shared", _MMAP, E.EINVAL, "not MAP_SHARED"),
        Rule("vdpa.mmap.read", _MMAP, E.EINVAL, "readable: a doorbell is write-only"),
        Rule("vdpa.mmap.index", _MMAP, E.EINVAL, "the page offset is no queue index"),
        Rule("vdpa.mmap.align", _MMAP, E.EINVAL, "the queue's notification area does not begin at a page"),
        Rule("vdpa.mmap.unsupported", _MMAP, E.ENOTSUPP, "the device has no notification areas, or the queue's is not one page",
             "524, which user space has no name for"),
        Rule("vdpa.msg.owner", _MSG, E.EPERM, "the writer is not the owner"),
        Rule("vdpa.msg.asid", _MSG, E.EINVAL, "no such address space, or one that never saw an UPDATE or BATCH_BEGIN"),
        Rule("vdpa.msg.batch-asid", _MSG, E.EINVAL, "a batch is open for another address space"),
        Rule("vdpa.msg.unknown", _MSG, E.EINVAL, "an IOTLB message type vhost-vdpa does not handle"),
        Rule("vdpa.batch.push-ignored", _MSG, 0, "BATCH_END: the device refused the map and nobody is told"),
        Rule("vdpa.iotlb.update-range", _UPDATE, E.EINVAL, "iova and size wrap or leave the device's range"),
        Rule("vdpa.iotlb.update-overlap", _UPDATE, E.EEXIST, "an entry of this address space overlaps"),
        Rule("vdpa.va.no-vma", _VA, E.EINVAL, "no mapping at or above the user address", switches=("va-mode",)),
        Rule("vdpa.va.skipped", _VA, 0, "private or anonymous memory is skipped: the UPDATE succeeds and maps nothing there",
             "the device reaches memory through files it can hold", switches=("va-mode",)),
        Rule("vdpa.va.hole", _VA, 0, "a hole is glued to the mapping above it", switches=("va-mode",)),
        Rule("vdpa.va.undo-all", _VA, 0, "an UPDATE at iova 0 that mapped nothing fails and wipes the whole address space",
             "the undo removes [0, 0 - 1], which is everything", switches=("va-mode",)),
        Rule("vdpa.pa.npages", _PA, E.EINVAL, "the page count overflows to 0"),
        Rule("vdpa.pa.overflow", _PA, E.EINVAL, "the page count overflows", switches=("F2",)),
        Rule("vdpa.pa.memlock", _PA, E.ENOMEM, "pinned pages would exceed RLIMIT_MEMLOCK", "CAP_IPC_LOCK is not consulted"),
        Rule("vdpa.pa.pin", _PA, E.EFAULT, "a page cannot be pinned: unmapped, PROT_NONE, or read-only and the device may write"),
        Rule("vdpa.pa.pin-partial", _PA, E.ENOMEM, "only some of the pages could be pinned"),
        Rule("vdpa.new-owner.unsupported", "vdpa.c:vhost_vdpa_new_owner()", E.EOPNOTSUPP, "the device does not advertise VHOST_BACKEND_F_NEW_OWNER", switches=_SERIES),
        Rule("vdpa.new-owner.unowned", "vdpa.c:vhost_vdpa_new_owner()", E.EINVAL, "the device has no owner", switches=_SERIES),
        Rule("vdpa.new-owner.memlock", "vdpa.c:vhost_vdpa_new_owner()", E.ENOMEM, "the device's pins and the caller's exceed the caller's RLIMIT_MEMLOCK",
             "for the present owner the device's pins count twice", switches=_SERIES),
        Rule("vdpa.new-owner.same", "vdpa.c:vhost_vdpa_new_owner()", E.EBUSY, "the caller is the owner", "found after the limit and after binding", switches=_SERIES),
        Rule("vdpa.remap.args", "vdpa.c:vhost_vdpa_process_iotlb_remap()", E.EINVAL, "perm is not 0, or size is 0", switches=_SERIES),
        Rule("vdpa.remap.unsupported", "vdpa.c:vhost_vdpa_process_iotlb_remap()", E.EOPNOTSUPP, "the device does not advertise VHOST_BACKEND_F_IOTLB_REMAP", switches=_SERIES),
        Rule("vdpa.remap.absent", "vdpa.c:vhost_vdpa_process_iotlb_remap()", E.ENOENT, "nothing is mapped there", switches=_SERIES),
        Rule("vdpa.remap.inexact", "vdpa.c:vhost_vdpa_process_iotlb_remap()", E.EINVAL, "the range is not exactly one entry",
             "entries, not UPDATEs, are matched: an UPDATE may have been split", switches=_POSTED),
        Rule("vdpa.remap.no-set-map", "vdpa.c:vhost_vdpa_process_iotlb_remap()", E.EINVAL, "the device takes no whole maps", switches=("live-update-v2",)),
        Rule("vdpa.remap.null-call", "vdpa.c:vhost_vdpa_process_iotlb_remap()", E.EOPNOTSUPP,
             "v1 calls a null operation on a device without set_map: the kernel dies; reported, never performed", switches=("live-update-v1",)),
        Rule("vdpa.remap.null-features", "vdpa.c:vhost_vdpa_process_iotlb_remap()", E.EOPNOTSUPP,
             "the driver has no operation that tells backend features, and it is called: the kernel dies; reported, never performed",
             switches=_POSTED, source="inferred"),
        Rule("vdpa.remap.old-address-pushed", "vdpa.c:vhost_vdpa_process_iotlb_remap()", 0,
             "outside a batch the device is handed the map before the new address is stored in it",
             "the last region remapped stays stale in the device", switches=_POSTED),
        Rule("vdpa.remap.pinned", _OURS, E.EOPNOTSUPP, "the entries of the device are pinned pages", "a user address in one would be used as a physical one", switches=_FIXED),
        Rule("vdpa.remap.range", _OURS, E.EINVAL, "a range wraps, or leaves the device's", switches=_FIXED),
        Rule("vdpa.remap.no-update", _OURS, E.EINVAL, "the range is not what one UPDATE mapped, all of it", switches=_FIXED),
        Rule("vdpa.remap.other-object", _OURS, E.EINVAL, "the address shows other memory than the UPDATE was given", switches=(*_FIXED, "lu-guard-same-object")),
        Rule("vdpa.remap.rolled-back", _OURS, 0, "the device refused the new map, and the old addresses are back", switches=_FIXED),
        Rule("vdpa.guard.stale", _OURS, E.EBUSY, "RESUME or DRIVER_OK while an entry has an address of the old owner's image",
             switches=(*_FIXED, "lu-guard-resume")),
    ]
)
