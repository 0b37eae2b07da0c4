/** The script of every page but the console: see the modules for what each does. */
import "./style.css";
import { installTheme } from "./theme";

installTheme(document);
