//! Blocking pieces shared by Dunlin's std drivers: disk, session folder, configuration.
