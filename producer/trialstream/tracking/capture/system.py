"""Load of the machine, of this process and of the GPUs, as metrics `system/…`."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

__all__ = ["Machine"]


class Machine:
    """Samples the load; needs psutil, and nvidia-ml-py for GPUs (the extra `capture`).

    Raises:
        ImportError: Psutil is not installed.
    """

    def __init__(self) -> None:
        import psutil  # noqa: PLC0415 (an extra)

        self._psutil = psutil
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first call has no interval to measure
        psutil.cpu_percent()
        self._nvml: Any = None
        self._gpus: list[Any] = []
        with suppress(Exception):  # no GPU, no driver, or not installed
            import pynvml  # noqa: PLC0415 (an extra)

            pynvml.nvmlInit()
            self._nvml = pynvml
            self._gpus = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]

    def sample(self) -> dict[str, float]:
        """Return the load since the last sample.

        Returns:
            By name: percent of all processors (`cpu`), percent of one processor (`process_cpu`), bytes of memory of
            this process (`process_memory`), percent of the machine's memory (`memory`), bytes read and written by disks
            (`disk_read`, `disk_written`) and sent and received by networks (`network_sent`, `network_received`) since
            the machine has started; for each GPU its percent of use (`gpu0/utilization`), bytes of memory
            (`gpu0/memory`), watts (`gpu0/power`) and degrees Celsius (`gpu0/temperature`).
        """
        psutil = self._psutil
        row: dict[str, float] = {
            "system/cpu": psutil.cpu_percent(),
            "system/process_cpu": self._process.cpu_percent(),
            "system/process_memory": self._process.memory_info().rss,
            "system/memory": psutil.virtual_memory().percent,
        }
        with suppress(Exception):  # containers may hide these
            disk = psutil.disk_io_counters()
            if disk is not None:
                row |= {"system/disk_read": disk.read_bytes, "system/disk_written": disk.write_bytes}
            network = psutil.net_io_counters()
            row |= {"system/network_sent": network.bytes_sent, "system/network_received": network.bytes_recv}
        for i, gpu in enumerate(self._gpus):
            nvml, name = self._nvml, f"system/gpu{i}"
            with suppress(Exception):  # a device may lack any of these
                row[f"{name}/utilization"] = nvml.nvmlDeviceGetUtilizationRates(gpu).gpu
                row[f"{name}/memory"] = nvml.nvmlDeviceGetMemoryInfo(gpu).used
                row[f"{name}/power"] = nvml.nvmlDeviceGetPowerUsage(gpu) / 1000  # milliwatts
                row[f"{name}/temperature"] = nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)
        return row
