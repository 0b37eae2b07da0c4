/** The script of every page but the console: see the modules for what each does. */
import "./style.css";
import { installConfirm } from "./confirm";
import { installCopy } from "./copy";
import { installFragmentForms } from "./fragment";
import { installImport } from "./import";
import { installMenus } from "./menu";
import { installPublishJob } from "./publish";
import { installShare } from "./share";
import { installSignOut } from "./sign-out";
import { installTables } from "./tables";
import { installTheme } from "./theme";
import { installTimes } from "./time";

installTheme(document);
installMenus(document);
installTimes(document);
installTables(document);
installCopy(document);
installConfirm(document);
installSignOut(document);
installFragmentForms(document);
installShare(document); // after the fragment is in the form
installPublishJob(document);
installImport(document);
