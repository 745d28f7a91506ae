//! Topologies: devices that need not be here, to compile for.

use super::{Client, DeviceDescription, Executable, NamedValue, Program, TopologyDescription, functions};

functions! {
    82 PJRT_TopologyDescription_Create "describing the devices to compile for" TopologyDescriptionCreate {
        topology_name: *const u8, topology_name_size: usize,
        create_options: *const NamedValue, num_options: usize,
        topology: *mut TopologyDescription,
    }
    83 PJRT_TopologyDescription_Destroy "freeing a topology" TopologyDescriptionDestroy { topology: *mut TopologyDescription }
    84 PJRT_TopologyDescription_PlatformName "reading a topology's platform" TopologyDescriptionPlatformName {
        topology: *const TopologyDescription, platform_name: *const u8, platform_name_size: usize,
    }
    86 PJRT_TopologyDescription_GetDeviceDescriptions "listing a topology's devices" TopologyDescriptionGetDeviceDescriptions {
        topology: *const TopologyDescription, descriptions: *const *mut DeviceDescription, num_descriptions: usize,
    }
    89 PJRT_Compile "compiling the program ahead of time" Compile {
        topology: *const TopologyDescription, program: *const Program,
        compile_options: *const u8, compile_options_size: usize,
        client: *mut Client, executable: *mut Executable,
    }
}
